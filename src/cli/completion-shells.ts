/** What differs between shells: the script, how words arrive, and how candidates are printed. */

export interface Candidate {
  readonly value: string;
  readonly description?: string;
}

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type CompletionShell = (typeof SHELLS)[number];

/** Instead of candidates: the shell completes the names of files. */
export const FILES = ":files";

export const SCRIPTS: Readonly<Record<CompletionShell, string>> = {
  bash: `_blacktree() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == ${FILES} ]]; then
      compopt -o default 2>/dev/null
      return
    fi
    COMPREPLY+=("$line")
  done < <("\${COMP_WORDS[0]}" __complete bash "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _blacktree blacktree`,

  zsh: `#compdef blacktree
_blacktree() {
  local -a lines
  lines=("\${(@f)$("\${words[1]}" __complete zsh "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ \${lines[1]} == ${FILES} ]]; then
    _files
  elif [[ -n \${lines[1]} ]]; then
    _describe -V blacktree lines
  fi
}
if [[ \${funcstack[1]} == _blacktree ]]; then
  _blacktree "$@"
else
  compdef _blacktree blacktree
fi`,

  fish: `function __blacktree_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l lines ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null)
  if test "$lines[1]" = ${FILES}
    __fish_complete_path "$current"
  else if test -n "$lines[1]"
    printf '%s\\n' $lines
  end
end
complete -c blacktree -f -a '(__blacktree_complete)'`,
};

export interface JoinedWords {
  readonly words: readonly string[];
  /** The beginning of the last word that the shell adds itself. */
  readonly taken: string;
}

/** Bash splits words also at "=" and ":", and completes only the last part. */
export function joinedWords(shell: CompletionShell, given: readonly string[]): JoinedWords {
  if (shell !== "bash") return { words: given, taken: "" };
  const words: string[] = [];
  let taken = "";
  let isOpen = false;
  for (const part of given) {
    const isBreak = /^[=:]+$/.test(part);
    if (words.length > 0 && (isBreak || isOpen)) {
      const before = words.pop() ?? "";
      taken = isBreak ? `${before}${part}` : before;
      words.push(`${before}${part}`);
    } else {
      taken = "";
      words.push(part);
    }
    isOpen = isBreak;
  }
  return { words, taken };
}

export function formatCandidates(
  shell: CompletionShell,
  candidates: readonly Candidate[],
  taken: string,
): string {
  return candidates
    .map(({ value, description = "" }) => {
      const inOneLine = description.replaceAll(/\s+/g, " ");
      if (shell === "bash") return value.slice(taken.length);
      if (shell === "fish") return inOneLine ? `${value}\t${inOneLine}` : value;
      const escaped = value.replaceAll(/[\\:]/g, "\\$&");
      return inOneLine ? `${escaped}:${inOneLine}` : escaped;
    })
    .join("\n");
}
