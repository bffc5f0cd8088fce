# Read by the scripts beside it: a temporary folder that goes at the end, unpacked Debian
# packages that never start themselves, and what was expected against what was seen.
set -euo pipefail
work=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]:-}"; do [ -n "$pid" ] && kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
chmod 755 "$work"
cd "$work"

# debian PACKAGE=VERSION ...: unpacks them into ./root
debian() {
  (apt-get download -qq "$@" >/dev/null 2>apt.log) || { cat apt.log; echo "cannot be had here: $*"; exit 1; }
  for deb in *.deb; do dpkg-deb -x "$deb" root; done
  rm -f ./*.deb
  export LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu:$work/root/lib/x86_64-linux-gnu"
}

# start COMMAND ...: in the background, until the script ends
start() { "$@" & started+=($!); }

# expect TITLE WANTED SEEN: fails where the two differ
expect() {
  if [ "$2" = "$3" ]; then printf 'as found: %s: %s\n' "$1" "$3"; return; fi
  printf 'CHANGED: %s\n  found then: %s\n  seen now:   %s\n' "$1" "$2" "$3"
  exit 1
}
