#!/bin/bash
# What cmake/debian.sh does on machines that are not this one, made of a PATH with stubs in place of dpkg-query, apt-get,
# sudo and id. The stubs write down how they were called.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# machine <name>...: a PATH with these stubs and the few programs that any system has.
machine() {
  rm -rf "$work/bin" "$work/calls"
  mkdir "$work/bin"
  : >"$work/calls"
  local name
  for name in bash env grep sed; do ln -s "$(command -v $name)" "$work/bin/"; done
  for name in "$@"; do stub "$name" ":"; done
}
# stub <name> <commands>
stub() {
  printf '#!/bin/bash\necho "%s $*" >>"%s"\n%s\n' "$1" "$work/calls" "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}
# install <package>...: sets out, err and status.
install() {
  status=0
  PATH=$work/bin bash -c 'set -euo pipefail; unset CMAKE_GENERATOR; . cmake/debian.sh; debian_install "$@"
    echo "went on${CMAKE_GENERATOR:+ with $CMAKE_GENERATOR}"' - "$@" \
    >"$work/out" 2>"$work/err" || status=$?
  out=$(<"$work/out") err=$(<"$work/err") calls=$(grep -v -e ^dpkg-query -e ^id "$work/calls" || true)
}
# same <what> <got> <wanted>
same() {
  [ "$2" = "$3" ] || { printf '%s: %s\n  got:    %s\n  wanted: %s\n' "$scene" "$1" "$2" "$3"; failed=1; }
}
# says <words>
says() {
  [[ $err == *"$1"* ]] || { printf '%s\n  wanted: %s\n  in:     %s\n' "$scene" "$1" "$err"; failed=1; }
}
has_all='echo installed'
has_cmake='[ "${!#}" != cmake ] || echo installed'  # and else nothing
by_apt="apt-get update && apt-get install --no-install-recommends g++ zlib1g-dev"
root='echo 0' user='echo 1000' refuse='echo "not in the sudoers file" >&2; exit 1'
apt_calls="apt-get update -q
apt-get install -q -y --no-install-recommends g++ zlib1g-dev"

scene="all is there"
machine cmake apt-get sudo
stub id "$user"; stub dpkg-query "$has_all"
install cmake g++
same output "$out$err" "went on"
same calls "$calls" ""

scene="root"
machine cmake apt-get
stub id "$root"; stub dpkg-query "$has_cmake"
install cmake g++ zlib1g-dev
same calls "$calls" "$apt_calls"
same output "$out" "went on"
same told "$err" "Installing through apt-get: g++ zlib1g-dev"

scene="root, and Ninja comes"
machine cmake
stub id "$root"; stub dpkg-query "$has_cmake"
stub apt-get "[ \"\$1\" != install ] || { printf '#!/bin/bash\n' >$work/bin/ninja; $(command -v chmod) +x $work/bin/ninja; }"
install cmake ninja-build
same output "$out" "went on with Ninja"

scene="a user with sudo"
machine cmake apt-get
stub id "$user"; stub dpkg-query "$has_cmake"; stub sudo '"$@"'
install cmake g++ zlib1g-dev
same calls "$calls" "sudo apt-get update -q
apt-get update -q
sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends g++ zlib1g-dev
apt-get install -q -y --no-install-recommends g++ zlib1g-dev"
same told "$err" "Installing through sudo apt-get: g++ zlib1g-dev"

scene="a user without sudo"
machine cmake apt-get
stub id "$user"; stub dpkg-query "$has_cmake"
install cmake g++ zlib1g-dev
same calls "$calls" ""
same output "$out" "went on"
says "Missing: g++ zlib1g-dev"
says "there is no sudo"
says "$by_apt"

scene="a user whom sudo refuses"
machine cmake apt-get
stub id "$user"; stub dpkg-query "$has_cmake"; stub sudo "$refuse"
install cmake g++ zlib1g-dev
same calls "$calls" "sudo apt-get update -q"
same output "$out" "went on"
says "not in the sudoers file"
says "sudo apt-get failed"
says "$by_apt"

scene="root without a network"
machine cmake
stub id "$root"; stub dpkg-query "$has_cmake"; stub apt-get 'exit 100'
install cmake g++ zlib1g-dev
same output "$out" "went on"
says "not installed: apt-get failed"
says "$by_apt"

scene="not Debian"
machine cmake
install g++ libstb-dev libxsimd-dev dataset-fashion-mnist
same output "$out" "went on"
says "dnf install gcc-c++ stb-devel xsimd-devel"
says "pacman -S --needed gcc stb xsimd"
says "brew install xsimd "
says "as Debian calls it, dataset-fashion-mnist."

scene="no cmake either"
machine apt-get
stub id "$user"; stub dpkg-query ":"
install cmake
same status "$status" 1
same output "$out" ""
says "There is no cmake"

scene="each package of the scripts has names elsewhere"
for package in $(sed -n '/^debian_install cmake/,/[^\\]$/p' examples/run.sh | sed 's/^debian_install//; s/\\$//'); do
  grep -q "^$package " cmake/debian.sh || { echo "$scene: $package has none"; failed=1; }
done

# jobs <cores> <kilobytes>
jobs() {
  echo "MemAvailable:   $2 kB" >"$work/meminfo"
  machine
  stub nproc "echo $1"
  PATH=$work/bin bash -c '. cmake/debian.sh; build_jobs "$1"' - "$work/meminfo"
}
scene="compilers side by side"
same "8 cores, 64 GB" "$(jobs 8 64000000)" 8
same "8 cores, 4 GB" "$(jobs 8 4000000)" 2
same "2 cores, 1 GB" "$(jobs 2 1000000)" 1
same "3 cores, memory unknown" "$(jobs 3 unknown)" 3
exit $failed
