#!/bin/sh
# Stands in for a C compiler, an archiver and dlltool where nothing will be linked: an empty file at the output's name,
# an archive as an archive without members.
previous=
for argument in "$@"; do
  case "$argument" in *.a | *.lib) printf '!<arch>\n' >"$argument" ;; esac
  case "$previous $argument" in *.a | *.lib) ;; "-o "*) : >"$argument" ;; esac
  previous=$argument
done
