/** Every kind of line, and the variables that systemd sets from it: an end-to-end test asks systemd. */
export const SAMPLE_FILE = String.raw`# A comment with A_COMMENT=1
; another one
  # and one after spaces
PLAIN=amqp://user:p#ss;word@host:5672/vhost
SPACED = two words  
EMPTY=
DOUBLE="a \"quoted\" \\ text, \$HOME and \n"
SINGLE='a \ "text" # of $HOME'
MIXED="one "'two' three
LATE=it"s 'quoted'
ESCAPED=a\ b\\c\"
CONTINUED=first\
second
LINES="first
second"
LAST=1
LAST=2
not a variable
2INVALID=x
WITH-DASH=x
`;

export const SAMPLE_VARIABLES: Readonly<Record<string, string>> = {
  PLAIN: "amqp://user:p#ss;word@host:5672/vhost",
  SPACED: "two words",
  EMPTY: "",
  DOUBLE: String.raw`a "quoted" \ text, $HOME and \n`,
  SINGLE: String.raw`a \ "text" # of $HOME`,
  MIXED: "one twothree",
  LATE: `it"s 'quoted'`,
  ESCAPED: String.raw`a b\c"`,
  CONTINUED: "firstsecond",
  LINES: "first\nsecond",
  LAST: "2",
};
