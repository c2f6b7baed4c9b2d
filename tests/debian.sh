#!/bin/bash
# Runs the two commands of the README word for word on bare Debians, which it makes with debootstrap:
#   sudo bash tests/debian.sh [--folder build/debian] [--mirror URL] [--suites "bookworm trixie sid"]
#                             [--commands "examples/run.sh tests/run.sh"] [--who "stranger root user"] [--ccache FOLDER]
#                             [--again]
# Who runs them: root of a machine with nothing on it; after that an ordinary user without sudo, for whom all packages
# are there; and a stranger, such a user on a bare machine, who must be told what is missing and by which command it
# comes. Each has a copy of this checkout and a login's environment, nothing else.
# Roots, copies and logs stay in the folder. A run goes on where the last one stopped: what passed is not run again until
# the checkout changes (or with --again), and builds go on from their last state; delete <folder>/<suite>* for a cold one.
# The mirror is that of this machine's apt, where none is named by --mirror or GATEFOLD_DEBIAN_MIRROR. A ccache folder
# is shared by all roots where one is named; it speeds up tests/run.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/debian suites="bookworm trixie sid" commands="examples/run.sh tests/run.sh" who="stranger root user"
mirror=${GATEFOLD_DEBIAN_MIRROR:-} ccache="" again=""
while (($#)); do
  case $1 in
    --again) again=1; shift; continue ;;
    --folder | --mirror | --suites | --commands | --who | --ccache)
      (($# > 1)) || { echo "$1 wants a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2 ;;
    *) echo "unknown argument $1; the head of tests/debian.sh has them all" >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "debootstrap and chroot need root: sudo bash tests/debian.sh" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "needs debootstrap: apt-get install debootstrap" >&2; exit 2; }
if [ -z "$mirror" ]; then
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n '/-security/d; s/^Debian //p' | head -n 1)
  [ -n "$mirror" ] || { echo "this machine's apt names no mirror of Debian: --mirror URL" >&2; exit 2; }
fi
mkdir -p "$folder/log"
folder=$(cd "$folder" && pwd)
[ -z "$ccache" ] || { mkdir -p "$ccache" && chmod 1777 "$ccache" && ccache=$(cd "$ccache" && pwd); }
# The files of the checkout, as they are, committed or not.
checkout() {
  local file
  git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
  done
}
state=$(checkout | xargs -0 sha256sum | sha256sum | cut -c 1-12)

# Bare roots, all at once; one that was broken off is begun anew.
for suite in $suites; do
  [ -e "$folder/$suite/etc/apt/apt.conf.d/99machine" ] || (
    rm -rf --one-file-system "${folder:?}/$suite"
    debootstrap --variant=minbase "$suite" "$folder/$suite" "$mirror" >"$folder/log/$suite.debootstrap" 2>&1 ||
      { echo "debootstrap of $suite failed: $folder/log/$suite.debootstrap" >&2; exit 1; }
    # How this machine reaches its mirror holds of the root as well.
    apt-config dump | grep -E '^Acquire::(Check-|http|https|Retries)' >"$folder/$suite/etc/apt/apt.conf.d/99machine" || true
  ) &
done
wait
for suite in $suites; do [ -e "$folder/$suite/etc/apt/apt.conf.d/99machine" ] || exit 1; done

# run <root> <user> <home> <command>: in namespaces of its own, so that all mounts and processes end with it, and it
# ends with this script, which starts it in the background. (Signals of the terminal do not reach a namespace's init.)
run() {
  exec unshare --mount --pid --fork --kill-child bash -c '
    root=$1 user=$2 home=$3 command=$4 cache=$5
    mount -t proc proc "$root/proc"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" 2>/dev/null || true
    if [ -n "$cache" ]; then
      mkdir -p "$root$home/.cache/ccache"
      mount --bind "$cache" "$root$home/.cache/ccache"
    fi
    umask 0022
    # Not by exec: the kernel forgets --kill-child where a process becomes another user.
    chroot --userspec="$user" "$root" /usr/bin/env -i HOME="$home" /bin/bash -lc "cd ~/gatefold && bash $command"
    exit $?
  ' run "$1" "$2" "$3" "$4" "$ccache" </dev/null
}

# place <root> <user> <home>: the checkout as it is now, beside what was built from it before.
place() {
  chroot "$1" id "$2" >/dev/null 2>&1 || chroot "$1" useradd --create-home --home-dir "$3" --shell /bin/bash "$2"
  local there=$1$3/gatefold
  mkdir -p "$there"
  find "$there" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
  checkout | tar c --null -T - | tar x --no-same-owner -C "$there"
  chroot "$1" chown -R "$2:" "$3/gatefold" "$3"
}

# told <log>: whether a stranger was told what is missing and how it comes, and saw no error of the shell.
told() {
  grep -q '^Missing: .*cmake' "$1" && grep -q '^  apt-get update && apt-get install .*cmake' "$1" &&
    ! grep -q 'command not found' "$1"
}

failed=0
table=()
running=""
trap '[ -z "$running" ] || kill -KILL "$running" 2>/dev/null || true' EXIT
for suite in $suites; do
  for name in $who; do
    user=$name home=/home/$name root=$folder/$suite.full
    case $name in
      stranger) root=$folder/$suite.bare ;;
      root) home=/root ;;
    esac
    [ -d "$root" ] || { rm -rf "$root.part"; cp -a "$folder/$suite" "$root.part"; mv "$root.part" "$root"; }
    placed=""
    for command in $commands; do
      log=$folder/log/$suite.$name.${command//\//-}
      passed=$log.passed
      if [ -z "$again" ] && [ -e "$passed" ] && read -r then seconds notes <"$passed" && [ "$then" = "$state" ]; then
        table+=("$suite|$name|$command|passed before|$seconds s|$notes")
        continue
      fi
      [ -n "$placed" ] || place "$root" "$user" "$home"
      placed=1
      echo "$(date +%T) $suite, $name: bash $command ($log)"
      start=$SECONDS status=0
      run "$root" "$user" "$home" "$command" >"$log" 2>&1 &
      running=$!
      wait "$running" || status=$?
      running=""
      result=passed
      if [ "$name" = stranger ]; then
        ((status)) && told "$log" || result=FAILED
      elif ((status)); then
        result=FAILED
      fi
      notes="$(grep -c -E '(^|: )warning:|CMake.*Warning' "$log" || true) warnings"
      if [ "$result" = passed ]; then
        echo "$state $((SECONDS - start)) $notes" >"$passed"
      else
        rm -f "$passed"
        failed=1
      fi
      table+=("$suite|$name|$command|$result|$((SECONDS - start)) s|$notes")
    done
  done
done

# The report page is to be the same whoever made it where.
shopt -s nullglob
reports=("$folder"/*.full/root/gatefold/build/examples/report.html "$folder"/*.full/home/*/gatefold/build/examples/report.html)
echo
for row in "suite|who|command|result|time|its log has" "${table[@]}"; do
  IFS='|' read -r -a cells <<<"$row"
  printf '%-9s %-9s %-16s %-14s %-7s %s\n' "${cells[@]}"
done
if ((${#reports[@]})); then
  pages=$(sha256sum "${reports[@]}" | cut -d ' ' -f 1 | sort -u | wc -l)
  echo "report.html: ${#reports[@]} made, $pages different (1 is wanted)"
  ((pages == 1)) || { sha256sum "${reports[@]}"; failed=1; }
fi
exit $failed
