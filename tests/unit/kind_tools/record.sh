# shellcheck shell=bash
# What every fake does first: note the call; fail or hold where a test asked for it. FAKES is the test's folder.
set -u
call="${0##*/} $*"
printf '%s\n' "$call" >>"$FAKES/calls"

# asked FILE: does the call match the pattern that a test wrote to FILE?
asked() {
  local pattern
  [ -e "$FAKES/$1" ] || return 1
  pattern=$(cat "$FAKES/$1")
  # shellcheck disable=SC2053 # a pattern it is
  [[ $call == $pattern ]]
}

if asked fails; then
  echo "Error: ${0##*/} was asked to fail" >&2
  exit 1
fi
