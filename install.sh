#!/bin/sh
# Installs a Blacktree daemon as a systemd service: programs, account, settings, units. It can be run again at any time:
# it replaces programs and units, and keeps settings. It asks no questions.
#
# A shell reads a group in braces to its end before it runs any of it: an incomplete download does nothing.
{
# "bun run build --release DIR" fills in this section in DIR/install.sh.
# release data: begin
release_version=''
release_commit=''
release_time=0
release_base=''
release_key=''
release_program_mib=0
# release data: end

usage() {
  cat <<'END'
Usage: install.sh orchestrator|worker [options]
       install.sh [orchestrator|worker] --uninstall [--purge] [--region NAME]

  --region NAME             worker: the region that it builds for (required); orchestrator: the default region of jobs.
                            Each region is a separate service with separate settings
  --orchestrator HOST:PORT  worker: address of the orchestrator; several addresses are comma separated
  --tls-dir DIR             copies DIR/ca.pem, DIR/<role>.pem and DIR/<role>.key to /etc/blacktree/tls, for gRPC with TLS;
                            <role> is orchestrator or worker
  --from URL|DIR            the release to install (default: BLACKTREE_BASE_URL, else the release of this script)
  --skip-signature          does not verify the release's signature; checksums are verified in any case
  --with-deps               installs missing packages (Debian and Ubuntu)
  --no-start                does not start the service, and does not require that systemd and Docker run
  --root DIR                only installs files, below DIR: no accounts, no admin token, no services
  --dry-run                 shows what would be done, and changes nothing
  --uninstall               removes services, units and programs; keeps settings, data and accounts
  --purge                   with --uninstall: also removes settings, keys, data and accounts
  --version, --help

From the environment: RABBITMQ_URL and REDIS_URL fill in the settings of a new orchestrator, BLACKTREE_REUSE_KEY and
BLACKTREE_WORKER_ID those of a new worker; without them, a key and an id are made.
Exit status: 0 done, 1 failed, 2 wrong usage or settings.
END
}

blacktree_install() {
  set -eu
  umask 022
  staging=''
  trap '[ -z "$staging" ] || rm -rf "$staging"' EXIT
  trap 'exit 1' HUP INT TERM
  parse_arguments "$@"
  if [ "$action" = uninstall ]; then
    check_permission
    uninstall
    return
  fi
  # All checks run before the first change.
  find_platform
  check_clock
  check_permission
  check_systemd
  check_tls_files
  check_dependencies
  make_staging
  check_disk
  fetch_list
  if [ "$dry_run" = yes ]; then
    show_plan
    return
  fi
  fetch_files
  make_accounts
  install_files
  run_service
}

say() {
  printf '%s\n' "$*"
}

warn() {
  printf 'install.sh: %s\n' "$*" >&2
}

fail() {
  warn "$1"
  exit "${2:-1}"
}

wrong_usage() {
  usage >&2
  fail "$1" 2
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# --- Arguments

parse_arguments() {
  arguments=$*
  role='' region='' orchestrator='' tls_dir='' from=${BLACKTREE_BASE_URL:-} root='' action=install
  files_only=no start=yes dry_run=no skip_signature=no with_deps=no purge=no
  while [ $# -gt 0 ]; do
    case $1 in
      orchestrator | worker)
        [ -z "$role" ] || wrong_usage "only one of orchestrator and worker at a time"
        role=$1
        ;;
      --region | --orchestrator | --tls-dir | --from | --root)
        case ${2:-} in '' | --*) wrong_usage "$1 needs a value" ;; esac
        take_value "$1" "$2"
        shift
        ;;
      --skip-signature) skip_signature=yes ;;
      --with-deps) with_deps=yes ;;
      --no-start) start=no ;;
      --dry-run) dry_run=yes ;;
      --uninstall) action=uninstall ;;
      --purge) purge=yes ;;
      --version)
        say "install.sh of Blacktree ${release_version:-(no release)} (commit ${release_commit:-unknown})"
        exit 0
        ;;
      --help | -h)
        usage
        exit 0
        ;;
      *) wrong_usage "unknown argument: $1" ;;
    esac
    shift
  done
  check_arguments
  name_paths
}

take_value() {
  case $1 in
    --region) region=$2 ;;
    --orchestrator) orchestrator=$2 ;;
    --tls-dir) tls_dir=${2%/} ;;
    --from) from=$2 ;;
    --root) root=${2%/} files_only=yes start=no ;;
  esac
}

check_arguments() {
  case $region in
    [!A-Za-z0-9]* | *[!A-Za-z0-9_-]*)
      wrong_usage "--region $region: expected letters, digits, - and _, such as us-east-1"
      ;;
  esac
  if [ "$action" = uninstall ]; then
    [ -z "$region" ] || [ -n "$role" ] || wrong_usage "--uninstall --region needs orchestrator or worker"
    return 0
  fi
  [ "$purge" = no ] || wrong_usage "--purge is only used with --uninstall"
  [ -n "$role" ] || wrong_usage "name the daemon to install: orchestrator or worker"
  if [ "$role" = orchestrator ]; then
    [ -z "$orchestrator" ] || wrong_usage "--orchestrator is an option of a worker"
    return 0
  fi
  [ -n "$region" ] || wrong_usage "a worker needs --region, such as --region us-east-1"
  check_addresses
}

check_addresses() {
  [ -n "$orchestrator" ] || return 0
  rest=$orchestrator,
  while [ -n "$rest" ]; do
    address=${rest%%,*} rest=${rest#*,}
    case $address in
      *[!]A-Za-z0-9.:%_[-]* | *: | *:*[!0-9]) address='' ;;
      ?*:[0-9]*) ;;
      *) address='' ;;
    esac
    [ -n "$address" ] ||
      wrong_usage "--orchestrator $orchestrator: expected host:port, such as orchestrator.example.com:5051"
  done
}

name_paths() {
  bin_dir=$root/usr/local/bin
  doc_dir=$root/usr/local/share/doc/blacktree
  unit_dir=$root/etc/systemd/system
  config_dir=$root/etc/blacktree
  state_dir=$root/var/lib/blacktree
  token_file=$config_dir/admin-token
  [ -n "$role" ] || return 0
  program=blacktree-$role
  account=$(account_of "$role")
  unit=$program${region:+@}.service
  service=$program${region:+@$region}.service
  settings=$config_dir/$role${region:+-$region}.env
}

account_of() {
  case $1 in
    orchestrator) say blacktree ;;
    worker) say blacktree-worker ;;
  esac
}

# --- Checks of this machine

find_platform() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform=linux-x64 loader=/lib64/ld-linux-x86-64.so.2 ;;
    Linux-aarch64 | Linux-arm64) platform=linux-arm64 loader=/lib/ld-linux-aarch64.so.1 ;;
    *) fail "Blacktree runs on Linux on x86_64 and arm64, and this is $(uname -s) on $(uname -m)" ;;
  esac
  [ "$files_only" = yes ] || [ -e "$loader" ] ||
    fail "Blacktree needs the GNU C library, and this system has no $loader; use a distribution such as Debian or Ubuntu"
  [ "$platform" = linux-arm64 ] || grep -q sse4_2 /proc/cpuinfo ||
    fail "Blacktree needs a processor with SSE4.2, and this one does not have it"
}

# With a wrong clock, certificates would be refused with errors that do not name the cause.
check_clock() {
  [ "$(date +%s)" -ge "$release_time" ] ||
    fail "the clock of this machine is wrong: it shows $(date), which is before this release was made; set it (timedatectl set-ntp true)"
}

check_permission() {
  [ "$files_only" = yes ] || [ "$dry_run" = yes ] || [ "$(id -u)" = 0 ] ||
    fail "installing requires root; run it with sudo: $(sudo_command)"
}

sudo_command() {
  case $0 in
    *install.sh) say "sudo $0 $arguments" ;;
    *) say "curl -fsSL ${from:-${release_base:-URL}}/install.sh | sudo sh -s -- $arguments" ;;
  esac
}

has_systemd() {
  [ "$files_only" = no ] && [ -d /run/systemd/system ]
}

check_systemd() {
  [ "$start" = no ] || has_systemd ||
    fail "systemd does not run on this machine, and Blacktree runs as a systemd service; use --no-start or --root DIR to prepare an image"
}

check_tls_files() {
  [ -n "$tls_dir" ] || return 0
  for name in ca.pem "$role.pem" "$role.key"; do
    [ -f "$tls_dir/$name" ] || fail "--tls-dir $tls_dir: $name not found; expected ca.pem, $role.pem and $role.key" 2
  done
  has openssl || return 0
  problem=$(openssl verify -CAfile "$tls_dir/ca.pem" "$tls_dir/$role.pem" 2>&1) ||
    fail "--tls-dir $tls_dir: $role.pem is refused: $(say "$problem" | sed -n 's/^error .*: //p' | head -n 1) (this machine's clock: $(date))" 2
  [ "$(openssl x509 -in "$tls_dir/$role.pem" -noout -pubkey)" = "$(openssl pkey -in "$tls_dir/$role.key" -pubout 2>/dev/null)" ] ||
    fail "--tls-dir $tls_dir: $role.key is not the key of $role.pem" 2
}

check_dependencies() {
  find_source
  find_distribution
  find_missing
  [ -n "$missing" ] || return 0
  if [ "$with_deps" = yes ] && [ "$dry_run" = no ]; then
    install_packages
    find_missing
    [ -n "$missing" ] || return 0
  fi
  warn "missing on this machine ($distribution):"
  printf '%s' "$missing" >&2
  if [ -n "$packages" ]; then
    warn "install them with: apt-get install $packages"
    warn "or run this again with --with-deps"
  fi
  fail "nothing was installed"
}

find_distribution() {
  distribution='unknown distribution' family=''
  [ -r /etc/os-release ] || return 0
  # shellcheck disable=SC1091
  distribution=$(. /etc/os-release && say "${PRETTY_NAME:-$NAME}")
  # shellcheck disable=SC1091
  case " $(. /etc/os-release && say "${ID:-} ${ID_LIKE:-}") " in *" debian "* | *" ubuntu "*) family=debian ;; esac
}

# $missing: one line for each missing part. $packages: those of Debian and Ubuntu that contain them.
find_missing() {
  missing='' packages=''
  case $base in
    http://* | https://*) find_downloader ;;
  esac
  has sha256sum || add_missing "sha256sum: verifies downloads" coreutils
  [ "$skip_signature" = yes ] || find_verifier
  if [ "$role" = worker ] && [ "$files_only" = no ]; then
    has git || add_missing "git: clones repositories" git
    find_docker
  fi
}

add_missing() {
  missing="$missing  $1
"
  [ "$family" != debian ] || packages="$packages${packages:+ }$2"
}

find_downloader() {
  if has curl; then
    downloader=curl
  elif has wget && wget --version 2>/dev/null | grep -q '^GNU'; then
    downloader=wget
  else
    add_missing "curl or GNU wget: downloads the release" "curl ca-certificates"
  fi
}

# Other implementations, such as OpenSSL 1.1.1 and LibreSSL, have no Ed25519 in this command.
find_verifier() {
  if ! has openssl; then
    add_missing "OpenSSL 3.0 or newer: verifies the release's signature (--skip-signature leaves that out)" openssl
  elif ! openssl pkeyutl -help 2>&1 | grep -q -e -rawin; then
    add_missing "OpenSSL 3.0 or newer: verifies the release's signature (--skip-signature leaves that out); this is $(openssl version)" openssl
  fi
}

find_docker() {
  # A worker that builds with a BuildKit at an address uses no engine.
  case $(kept_value BLACKTREE_BUILDER) in '' | engine) ;; *) return 0 ;; esac
  if ! has docker; then
    add_missing "Docker Engine with BuildKit: builds images" "$(docker_packages)"
    return 0
  fi
  docker buildx version >/dev/null 2>&1 || has_own_buildkit ||
    add_missing "docker buildx: builds images with BuildKit, and this docker does not have it" docker-buildx
  [ "$start" = no ] || docker_answers ||
    add_missing "a running Docker Engine: $docker_error (systemctl enable --now docker)" "$(docker_packages)"
}

# Docker's client has a separate package since Debian 13, and buildx has one in Debian 13 and Ubuntu.
docker_packages() {
  [ "$family" = debian ] || return 0
  found=docker.io
  for name in docker-cli docker-buildx; do
    if apt-cache policy "$name" 2>/dev/null | grep -q 'Candidate: [0-9]'; then found="$found $name"; fi
  done
  say "$found"
}

has_own_buildkit() {
  version=$(docker version --format '{{.Client.Version}}' 2>/dev/null) || :
  case ${version%%.*} in '' | *[!0-9]*) return 1 ;; esac
  [ "${version%%.*}" -lt 23 ]
}

docker_answers() {
  DOCKER_HOST=$(kept_value DOCKER_HOST)
  if [ -n "$DOCKER_HOST" ]; then export DOCKER_HOST; else unset DOCKER_HOST; fi
  docker_error=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) && return 0
  docker_error=$(say "$docker_error" | head -n 1)
  return 1
}

install_packages() {
  [ -n "$packages" ] || return 0
  say "installing with apt: $packages"
  apt_get update || warn "apt-get update failed; using the present package lists"
  # These lists were not known before.
  find_missing
  # shellcheck disable=SC2086
  apt_get install --yes --no-install-recommends $packages || fail "apt-get could not install: $packages"
  if has_systemd && has docker; then systemctl enable --now docker </dev/null || :; fi
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" </dev/null
}

# The programs are stored twice until the old ones are replaced.
check_disk() {
  needed=$((2 * release_program_mib + 20))
  free=$(df -Pk "$staging" | sed -n '2p' | tr -s ' ' | cut -d ' ' -f 4)
  [ "$((free / 1024))" -ge "$needed" ] ||
    fail "not enough disk space for the programs: ${staging%/*} has $((free / 1024)) MiB free, and $needed MiB are needed"
}

# --- The release

find_source() {
  base=${from:-$release_base}
  # A release that was copied to this machine.
  case $0 in
    install.sh | */install.sh)
      [ -n "$from" ] || [ ! -f "$(dirname "$0")/SHA256SUMS" ] || base=$(dirname "$0")
      ;;
  esac
  base=${base%/}
  case $base in
    '') wrong_usage "this script is not part of a release; name one with --from URL|DIR (bun run build --release DIR makes one)" ;;
    http://* | https://*) ;;
    *) [ -f "$base/SHA256SUMS" ] || fail "$base is not a folder with a release: SHA256SUMS not found in it" ;;
  esac
}

make_staging() {
  # Beside the programs: they are moved from there, and run there once, which a temporary folder may forbid.
  parent=$root/usr/local
  [ "$dry_run" = no ] || parent=${TMPDIR:-/tmp}
  mkdir -p "$parent"
  staging=$(mktemp -d "$parent/.blacktree-install.XXXXXX")
}

fetch_list() {
  fetch SHA256SUMS
  if [ "$skip_signature" = yes ]; then
    warn "the release's signature is not verified (--skip-signature)"
  else
    fetch SHA256SUMS.sig
    verify_signature
  fi
  [ -n "$(listed "systemd/$unit")" ] || fail "the release at $base does not contain systemd/$unit; nothing was installed"
  files="$platform/$program $platform/blacktree $(listed "systemd/$program*.service" 'systemd/*.target')"
  files="$files $(listed 'docs/*' LICENSE 'systemd/*.slice')"
}

# Paths of the verified list that match one of the patterns.
listed() {
  while read -r _ path; do
    for pattern in "$@"; do
      # shellcheck disable=SC2254
      case $path in $pattern) say "$path" ;; esac
    done
  done <"$staging/SHA256SUMS"
}

verify_signature() {
  [ -n "$release_key" ] ||
    fail "this script has no public key, since it is not part of a release; use the install.sh of the release, or --skip-signature"
  printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$release_key" >"$staging/key.pem"
  openssl pkeyutl -verify -pubin -inkey "$staging/key.pem" -rawin -in "$staging/SHA256SUMS" \
    -sigfile "$staging/SHA256SUMS.sig" >/dev/null 2>&1 ||
    fail "the signature of $base/SHA256SUMS is wrong: the release was changed, or it is not of the key of this script; nothing was installed"
}

fetch_files() {
  for file in $files; do
    expected=$(checksum_in_list "$file")
    [ -n "$expected" ] || fail "the release at $base does not contain $file; nothing was installed"
    target=$(target_of "$file")
    mkdir -p "$(dirname "$staging/$file")"
    if [ -f "$target" ] && [ "$(sha256 "$target")" = "$expected" ]; then continue; fi
    fetch "$file"
    found=$(sha256 "$staging/$file")
    [ "$found" = "$expected" ] ||
      fail "$base/$file is damaged: its SHA-256 is $found, and the release's list has $expected; nothing was installed"
  done
  test_programs
}

checksum_in_list() {
  while read -r sum path; do
    if [ "$path" = "$1" ]; then say "$sum"; fi
  done <"$staging/SHA256SUMS"
}

sha256() {
  sha256sum <"$1" | cut -d ' ' -f 1
}

test_programs() {
  for name in "$program" blacktree; do
    file=$staging/$platform/$name
    [ -f "$file" ] || continue
    chmod 0755 "$file"
    problem=$("$file" --version 2>&1) ||
      fail "$name does not start on this machine: $problem; nothing was installed"
  done
}

target_of() {
  case $1 in
    linux-*) say "$bin_dir/${1##*/}" ;;
    *.service | *.target) say "$unit_dir/${1##*/}" ;;
    *) say "$doc_dir/${1##*/}" ;;
  esac
}

# --- Downloads

fetch() {
  case $base in
    http://* | https://*) download "$base/$1" "$staging/$1" ;;
    *)
      [ -f "$base/$1" ] || fail "$base/$1 not found; nothing was installed"
      cp "$base/$1" "$staging/$1"
      ;;
  esac
}

download() {
  attempt=1 pause=1
  while ! download_once "$1" "$2"; do
    if [ "$may_pass" = no ] || [ "$attempt" -ge 5 ]; then fail "cannot download $1: $problem; nothing was installed"; fi
    say "retrying   $1 in $pause s: $problem"
    sleep "$pause"
    attempt=$((attempt + 1)) pause=$((pause * 2))
  done
}

# Sets $problem, and whether it may pass ($may_pass).
download_once() {
  case $downloader in
    curl) download_with_curl "$1" "$2" ;;
    wget) download_with_wget "$1" "$2" ;;
  esac
}

download_with_curl() {
  status=0 schemes=http,https
  case $1 in https://*) schemes=https ;; esac
  code=$(curl --silent --show-error --fail --location --proto "=$schemes" --connect-timeout 15 --speed-time 30 \
    --speed-limit 1000 --write-out '%{http_code}' --output "$2" "$1" 2>"$staging/error") || status=$?
  problem=$(sed 's/^curl: ([0-9]*) //' "$staging/error" | head -n 1)
  case $status-$code in
    0-*) return 0 ;;
    22-408 | 22-429 | 22-5*) may_pass=yes ;;
    60-*) may_pass=no problem="$problem; $(certificate_remedy)" ;;
    1-* | 3-* | 22-* | 23-* | 35-* | 77-*) may_pass=no ;;
    *) may_pass=yes ;;
  esac
  return 1
}

download_with_wget() {
  status=0
  wget --no-verbose --tries=1 --timeout=30 --output-document="$2" "$1" 2>"$staging/error" || status=$?
  problem=$(grep -v '^$' "$staging/error" | tail -n 1)
  case $status in
    0) return 0 ;;
    5) may_pass=no problem="$problem; $(certificate_remedy)" ;;
    3) may_pass=no ;;
    *)
      case $problem in
        *'ERROR 408'* | *'ERROR 429'*) may_pass=yes ;;
        *'ERROR 4'*) may_pass=no ;;
        *) may_pass=yes ;;
      esac
      ;;
  esac
  return 1
}

certificate_remedy() {
  say "check this machine's clock ($(date)), and whether its certificate authorities are installed (package ca-certificates)"
}

# --- Accounts and files

make_accounts() {
  [ "$files_only" = no ] || return 0
  make_group "$account"
  getent passwd "$account" >/dev/null ||
    useradd --system --gid "$account" --home-dir /var/lib/blacktree --no-create-home --shell /usr/sbin/nologin "$account"
  # The worker's unit adds this group. Docker's packages create it too, before or after this script.
  if [ "$role" = worker ]; then make_group docker; else make_log_folder; fi
}

# The start of the service would make it too, but the settings, which name it, are checked before.
make_log_folder() {
  folder=$state_dir/logs
  [ -z "$region" ] || folder=$state_dir/orchestrator-$region
  [ ! -d "$folder" ] || return 0
  mkdir -p "$folder"
  own "$folder" 0700 "$account" "$account"
}

make_group() {
  getent group "$1" >/dev/null || groupadd --system "$1"
}

install_files() {
  changed=no
  mkdir -p "$bin_dir" "$unit_dir" "$config_dir" "$doc_dir"
  for file in $files; do
    mode=0644
    case $file in linux-*) mode=0755 ;; esac
    install_file "$file" "$mode"
  done
  say "installed  $doc_dir"
  install_tls_files
  install_settings
  install_token
}

# By rename: a program that runs keeps its old file, and a half-written file is never visible.
install_file() {
  target=$(target_of "$1")
  # It was not fetched, since the same file is installed.
  [ -f "$staging/$1" ] || return 0
  chmod "$2" "$staging/$1"
  mv "$staging/$1" "$target"
  if [ "${target%/*}" != "$doc_dir" ]; then
    changed=yes
    say "installed  $target"
  fi
}

install_tls_files() {
  [ -n "$tls_dir" ] || return 0
  mkdir -p "$config_dir/tls"
  for name in ca.pem "$role.pem" "$role.key"; do
    target=$config_dir/tls/$name
    if ! cmp -s "$tls_dir/$name" "$target"; then
      # The key is never readable by others, also not before its mode is set.
      (umask 077 && cp "$tls_dir/$name" "$target.new")
      mv "$target.new" "$target"
      changed=yes
      say "installed  $target"
    fi
    chmod 0644 "$target"
  done
  own "$config_dir/tls/$role.key" 0640 root "$account"
}

# Usage: own FILE MODE USER GROUP
own() {
  chmod "$2" "$1"
  [ "$files_only" = yes ] || chown "$3:$4" "$1"
}

install_settings() {
  if [ -e "$settings" ]; then
    say "kept       $settings"
    given_settings | while read -r name value; do warn_of_conflict "$name" "$value"; done
    return 0
  fi
  (umask 077 && write_settings >"$settings.new")
  own "$settings.new" 0640 root "$account"
  mv "$settings.new" "$settings"
  say "installed  $settings"
}

# The settings that options and the environment fill in, each as NAME and value.
given_settings() {
  if [ "$role" = worker ]; then
    given BLACKTREE_ORCHESTRATOR_ADDR "$orchestrator"
    given BLACKTREE_REUSE_KEY "${BLACKTREE_REUSE_KEY:-}"
    given BLACKTREE_WORKER_ID "${BLACKTREE_WORKER_ID:-}"
  else
    given BLACKTREE_REGION "$region"
    given RABBITMQ_URL "${RABBITMQ_URL:-}"
    given REDIS_URL "${REDIS_URL:-}"
  fi
  [ -n "$tls_dir" ] || return 0
  given BLACKTREE_TLS_CA /etc/blacktree/tls/ca.pem
  given BLACKTREE_TLS_CERT "/etc/blacktree/tls/$role.pem"
  given BLACKTREE_TLS_KEY "/etc/blacktree/tls/$role.key"
}

given() {
  [ -z "$2" ] || say "$1 $2"
}

# URLs contain passwords, so values are not shown.
warn_of_conflict() {
  [ "$(kept_value "$1")" = "$2" ] ||
    warn "$1 was given with another value than in $settings, which is kept; edit that file to change it"
}

# The value of a setting in the settings file; empty without one.
kept_value() {
  [ -r "$settings" ] || return 0
  sed -n "s/^$1=//p" "$settings" | tail -n 1 | sed -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/" -e 's/\\\(["\\$`]\)/\1/g'
}

random_key() {
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

install_token() {
  [ "$role" = orchestrator ] && [ "$files_only" = no ] || return 0
  if [ -e "$token_file" ]; then
    say "kept       $token_file"
    return 0
  fi
  (umask 077 && random_key >"$token_file.new")
  own "$token_file.new" 0600 "$account" "$account"
  mv "$token_file.new" "$token_file"
  say "installed  $token_file"
}

# --- Settings

write_settings() {
  case $role in
    orchestrator) orchestrator_settings ;;
    worker) worker_settings ;;
  esac
}

# Usage: setting NAME [PREFIX [VALUE]], used if the value is not given. In double quotes systemd reads \ as the start of an escape, and only before these characters.
setting() {
  value=$(given_settings | sed -n "s/^$1 //p")
  if [ -n "$value" ]; then
    say "$1=\"$(say "$value" | sed 's/["\\$`]/\\&/g')\""
  else
    say "${2-}$1=${3-}"
  fi
}

orchestrator_settings() {
  cat <<END
# Settings of the orchestrator, NAME=value on each line. /usr/local/share/doc/blacktree/settings.md explains them all.
# This shows the effective ones:  blacktree-orchestrator --check-config --env-file ${settings#"$root"}$(log_folder_note)

# Required.
$(setting RABBITMQ_URL)
$(setting REDIS_URL)

# AWS region of the registry for jobs without a region.
$(setting BLACKTREE_REGION '#' us-east-1)

# Workers on other machines need TLS on both sides; see many-machines.md in the same folder.
$(setting BLACKTREE_TLS_CA '#' /etc/blacktree/tls/ca.pem)
$(setting BLACKTREE_TLS_CERT '#' /etc/blacktree/tls/orchestrator.pem)
$(setting BLACKTREE_TLS_KEY '#' /etc/blacktree/tls/orchestrator.key)

# The admin API, and the token that it requires.
#BLACKTREE_ADMIN_LISTEN=127.0.0.1:8080
BLACKTREE_ADMIN_TOKEN_FILE=/etc/blacktree/admin-token
END
}

log_folder_note() {
  [ -z "$region" ] || printf '\n# BLACKTREE_LOG_DIR comes from the service.'
}

worker_settings() {
  cat <<END
# Settings of the worker for $region, NAME=value on each line. /usr/local/share/doc/blacktree/settings.md explains them all.
# This shows the effective ones:  blacktree-worker --check-config --env-file ${settings#"$root"}
# BLACKTREE_WORKER_REGION and BLACKTREE_WORK_DIR come from the service.

# Required: host:port of each orchestrator, comma separated.
$(setting BLACKTREE_ORCHESTRATOR_ADDR)

# What operators order for this worker, such as a drain, belongs to its id. No other worker may have the same one.
$(worker_id_setting)

#BLACKTREE_WORKER_SLOTS=1

# Proves which images Blacktree built. Workers that build for the same registries need the same key.
$(setting BLACKTREE_REUSE_KEY '' "$(random_key)")

# Orchestrators on other machines need TLS on both sides; see many-machines.md in the same folder.
$(setting BLACKTREE_TLS_CA '#' /etc/blacktree/tls/ca.pem)
$(setting BLACKTREE_TLS_CERT '#' /etc/blacktree/tls/worker.pem)
$(setting BLACKTREE_TLS_KEY '#' /etc/blacktree/tls/worker.key)
#BLACKTREE_WORKER_LISTEN=0.0.0.0:6000

# On EC2 the instance's role is used when these are not set.
#AWS_ACCESS_KEY_ID=
#AWS_SECRET_ACCESS_KEY=
END
}

# With --root and --no-start this may be an image for many machines: without the setting, each start makes another id.
worker_id_setting() {
  host=$(uname -n | sed 's/\..*//' | tr -cd 'A-Za-z0-9_-')
  if [ "$start" = yes ]; then
    setting BLACKTREE_WORKER_ID '' "${host#-}-$region-$(random_key | cut -c 1-8)"
  else
    setting BLACKTREE_WORKER_ID '#' "builder-7-$region"
  fi
}

# --- The service

run_service() {
  if [ "$files_only" = no ] && has systemctl; then
    if has_systemd; then systemctl daemon-reload; fi
    [ ! -f "$unit_dir/blacktree.target" ] || systemctl --quiet enable blacktree.target
    systemctl --quiet enable "$service"
  fi
  say
  if [ "$start" = no ]; then
    say "$service is installed and was not started."
    say "Next: fill in $settings, then run: systemctl start $service"
    return 0
  fi
  check_settings
  start_service
  report_service
}

# As the service's account, which has to read certificates and keys too.
check_settings() {
  if setpriv --reuid="$account" --regid="$account" --init-groups \
    "$bin_dir/$program" --check-config --env-file "$settings" >"$staging/effective" 2>"$staging/problems"; then
    return 0
  fi
  if grep -v ': wrong settings$' "$staging/problems" | grep -qv ': is not set; '; then
    warn "$service was not started, since its settings are wrong:"
    grep -v ': wrong settings$' "$staging/problems" >&2
    fail "correct $settings, then run: systemctl restart $service" 2
  fi
  say "$service is installed. It was not started, since these settings are missing:"
  sed -n 's/^\([A-Z_]*\): is not set; .*/  \1/p' "$staging/problems"
  say "Next: fill in $settings, then run: systemctl start $service"
  exit 0
}

start_service() {
  case $(service_state) in
    active | activating | reloading)
      [ "$changed" = yes ] || return 0
      say "restarting $service; a worker first ends its builds"
      systemctl restart "$service" || :
      ;;
    *)
      check_ports
      # A service that is not ready within this time continues to start.
      timeout 30 systemctl start "$service" || :
      ;;
  esac
}

check_ports() {
  if [ "$role" = worker ]; then
    check_port BLACKTREE_WORKER_LISTEN 6000
  else
    check_port BLACKTREE_GRPC_LISTEN 5051
    check_port BLACKTREE_ADMIN_LISTEN 8080
  fi
}

# Usage: check_port SETTING DEFAULT. In the kernel's tables, ports are hexadecimal, and 0A is a listener.
check_port() {
  port=$(sed -n "s/^$1=.*:\([0-9]*\)\$/\1/p" "$staging/effective")
  port=${port:-$2}
  ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "^ *[0-9]*: [0-9A-F]*:$(printf '%04X' "$port") [0-9A-F:]* 0A " ||
    fail "$service was not started, since another program listens on port $port (ss -lntp shows it); end that program or set $1 in $settings, then run: systemctl start $service"
}

report_service() {
  state=$(service_state)
  say "$service is $state. $(systemctl show --property=StatusText --value "$service")"
  if [ "$state" != active ]; then
    journalctl --quiet --no-pager --lines=5 --output=cat --unit "$service" >&2 || :
    [ "$state" = activating ] || fail "$service did not start; its log: journalctl --unit $service"
  fi
  if [ "$changed" = yes ]; then
    for name in $(services); do
      if [ "$name" != "$service" ] && systemctl --quiet is-active "$name"; then
        say "Also: systemctl restart $name    # until then it runs the earlier program"
      fi
    done
  fi
  say "Next: journalctl --follow --unit $service"
  [ "$role" = worker ] || say_workers_command
}

say_workers_command() {
  address=$(sed -n 's/^BLACKTREE_ADMIN_LISTEN=//p' "$staging/effective")
  case $address in
    off) return 0 ;;
    127.0.0.1:8080) api='' ;;
    0.0.0.0:* | '[::]:'*) api=" --api http://127.0.0.1:${address##*:}" ;;
    *) api=" --api http://$address" ;;
  esac
  say "      sudo blacktree workers$api    # lists the workers that have registered"
}

service_state() {
  systemctl is-active "$service" || :
}

# --- Dry run and removal

show_plan() {
  say "Blacktree ${release_version:-} from $base, for $platform:"
  [ "$files_only" = yes ] || getent passwd "$account" >/dev/null || say "would create   the account $account"
  for file in $files; do
    target=$(target_of "$file")
    if [ -f "$target" ] && [ "$(sha256 "$target")" = "$(checksum_in_list "$file")" ]; then continue; fi
    [ "${target%/*}" = "$doc_dir" ] || say "would install  $target"
  done
  say "would install  $doc_dir"
  if [ -e "$settings" ]; then say "would keep     $settings"; else say "would install  $settings"; fi
  [ "$start" = no ] || say "would start    $service"
}

uninstall() {
  # A worker that ends its builds needs an orchestrator.
  for role in ${role:-worker orchestrator}; do
    name_paths
    stop_services
    remove_settings
    # Another region's service on this machine needs the rest.
    [ -z "$region" ] || [ -z "$(services)" ] || continue
    for path in "$unit_dir/$program.service" "$unit_dir/$program@.service" "$bin_dir/$program"; do remove "$path"; done
    remove_account
  done
  [ -e "$bin_dir/blacktree-orchestrator" ] || [ -e "$bin_dir/blacktree-worker" ] || remove_common_files
  if has_systemd && [ "$dry_run" = no ]; then systemctl daemon-reload; fi
  [ "$purge" = yes ] || say "kept: $config_dir, $state_dir and the accounts; --purge removes them too"
}

# Enabled services of this role, on this machine.
services() {
  for wanted in "$unit_dir"/*.wants/"$program.service" "$unit_dir"/*.wants/"$program"@*.service; do
    # A pattern without a match is not expanded.
    [ ! -L "$wanted" ] || say "${wanted##*/}"
  done
}

stop_services() {
  [ "$files_only" = no ] && has systemctl || return 0
  for name in $(services); do
    if [ -n "$region" ] && [ "$name" != "$service" ]; then continue; fi
    if [ "$dry_run" = yes ]; then
      say "would stop     $name"
      continue
    fi
    say "stopping   $name; a worker first ends its builds"
    if has_systemd; then systemctl --quiet stop "$name"; fi
    systemctl --quiet disable "$name"
  done
}

remove_settings() {
  [ "$purge" = yes ] || return 0
  if [ -n "$region" ]; then
    remove "$settings"
    remove "$state_dir/$role-$region"
    return 0
  fi
  for path in "$config_dir/$role.env" "$config_dir/$role"-*.env "$config_dir/tls/$role".* "$state_dir/$role"-*; do
    remove "$path"
  done
  [ "$role" = worker ] || for path in "$token_file" "$state_dir/logs"; do remove "$path"; done
}

remove_account() {
  [ "$purge" = yes ] && [ "$files_only" = no ] || return 0
  getent passwd "$account" >/dev/null || return 0
  if [ "$dry_run" = yes ]; then
    say "would remove   the account $account"
    return 0
  fi
  userdel "$account"
  say "removed    the account $account"
}

remove_common_files() {
  if [ "$dry_run" = no ] && [ "$files_only" = no ] && [ -f "$unit_dir/blacktree.target" ]; then
    systemctl --quiet disable blacktree.target
  fi
  for path in "$bin_dir/blacktree" "$unit_dir/blacktree.target" "$doc_dir"; do remove "$path"; done
  # This script may have made it.
  if [ -d "${doc_dir%/*}" ] && [ -z "$(ls -A "${doc_dir%/*}")" ]; then rmdir "${doc_dir%/*}"; fi
  [ "$purge" = yes ] || return 0
  for path in "$config_dir" "$state_dir"; do remove "$path"; done
}

remove() {
  [ -e "$1" ] || return 0
  if [ "$dry_run" = yes ]; then
    say "would remove   $1"
    return 0
  fi
  rm -rf "$1"
  say "removed    $1"
}

blacktree_install "$@"
exit
}
