// Package docstest holds the tests of the documentation: every shell example of README.md, of docs/
// and of the other pages is run, in the order of its page, as somebody would who reads it in a
// terminal; and what docs/troubleshooting.md quotes is compared with the code.
//
// A page says what it needs in HTML comments directly before a block, which its readers don't see:
//
//	<!-- not run: needs a cluster -->     only the syntax of the block is checked, for that reason
//	<!-- setup: echo hello >a.txt -->     shell commands that are run before the block, on as many
//	                                      lines as they need
//
// All blocks of a page share one shell, one empty home directory and one working directory, which
// has the files of [fixtures]. Nothing is configured but the keys of the servers: a page says
// --local, or exports FILESTORE_LOCAL or FILESTORE_BUCKET, as its reader has to. S3 and DynamoDB are
// MinIO and dynalite.
//
// A block of the language "sh" must succeed in each of its commands. In one of the language "console"
// lines that begin with "$ " are commands and the others what a terminal then shows. It is compared,
// but for ids, times and sizes, the width of columns, and "…", which stands for anything, on a line
// of its own for any number of lines. A command fails if, and only if, its output has an error.
//
// In commands the word ID stands for the id in the shell variable ID, which a setup sets, and an id
// that was shown before for the one that the program has printed in its place. The addresses of
// "serve" are replaced by free ones, and paths below /etc, /srv, /tmp and /var by some of the test's
// own. What starts a server in the background ends a block: the next one begins once it answers.
package docstest
