#!/bin/sh
# A compiler launcher: checks a file and makes no code of it, but an empty object, so that the build knows it is done.
"$@" -fsyntax-only || exit
while [ "$#" -gt 0 ] && [ "$1" != -o ]; do shift; done
: > "${2:?syntax_only.sh wants a compiler command with -o}"
