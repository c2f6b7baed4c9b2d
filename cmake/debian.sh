# What the run.sh scripts share; they source this file.

# debian_install <package>...: installs those Debian packages that are missing, as root or through sudo. Where that
# cannot be, it says what is missing and how to get it, and goes on with what is there: CMake names what it cannot do
# without. All it says goes to standard error.
debian_install() {
  if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    install_by_apt "$@" >&2
  else
    name_packages_elsewhere "$@" >&2
  fi
  command -v cmake >/dev/null || { echo "There is no cmake, without which nothing can be built." >&2; exit 1; }
  # Not -G Ninja: without Ninja make does, and a folder that is configured keeps what it has.
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"; fi
}

install_by_apt() {
  local package missing=() as_root=() why
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  if ((${#as_root[@]})) && ! command -v sudo >/dev/null; then
    why="you are not root, and there is no sudo"
  else
    echo "Installing through ${as_root[*]:+sudo }apt-get: ${missing[*]}"  # said before sudo asks for a password
    if "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${missing[@]}"; then
      return 0
    fi
    why="${as_root[*]:+sudo }apt-get failed, as said above"
  fi
  echo "Missing: ${missing[*]}"
  echo "They were not installed: $why. Whoever is root here installs them by"
  echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}"
  echo "Going on with what is there."
}

# Debian's name, Fedora's, Arch's, Homebrew's; - where there is no such package, or where the system has it anyway.
packages_elsewhere="
cmake                 cmake                    cmake         cmake
g++                   gcc-c++                  gcc           -
ninja-build           ninja-build              ninja         ninja
ccache                ccache                   ccache        ccache
pkg-config            pkgconf-pkg-config       pkgconf       pkgconf
libeigen3-dev         eigen3-devel             eigen         eigen
libxsimd-dev          xsimd-devel              xsimd         xsimd
nlohmann-json3-dev    json-devel               nlohmann-json nlohmann-json
libstb-dev            stb-devel                stb           -
libutf8proc-dev       utf8proc-devel           libutf8proc   utf8proc
libxxhash-dev         xxhash-devel             xxhash        xxhash
libwebp-dev           libwebp-devel            libwebp       webp
libheif-dev           libheif-devel            libheif       libheif
zlib1g-dev            zlib-devel               zlib          zlib
libgtest-dev          gtest-devel              gtest         googletest
libgmock-dev          gmock-devel              -             -
libbenchmark-dev      google-benchmark-devel   benchmark     google-benchmark
libcli11-dev          cli11-devel              cli11         cli11
"

# name_packages_elsewhere <package>...: tells what those Debian packages are called by other systems.
name_packages_elsewhere() {
  local package debian fedora arch brew fedoras="" arches="" brews="" unknown=""
  for package in "$@"; do
    local known=""
    while read -r debian fedora arch brew; do
      [ "$debian" = "$package" ] || continue
      known=1
      [ "$fedora" = - ] || fedoras+=" $fedora"
      [ "$arch" = - ] || arches+=" $arch"
      [ "$brew" = - ] || brews+=" $brew"
    done <<<"$packages_elsewhere"
    [ -n "$known" ] || unknown+=" $package"
  done
  echo "This is not Debian (no dpkg-query with apt-get), so nothing is installed. What is needed comes by"
  echo "  dnf install$fedoras"
  echo "  pacman -S --needed$arches"
  echo "  brew install$brews    (and the headers of github.com/nothings/stb)"
  [ -z "$unknown" ] || echo "and, as Debian calls it,$unknown."
  echo "Going on with what is there; CMake says what it lacks."
}

# build_jobs [<meminfo>]: how many compilers run side by side, one for each core and for each 1.6 GB of memory that is
# free, which is what the largest unit takes.
build_jobs() {
  local jobs kilobytes=""
  jobs=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  kilobytes=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' "${1:-/proc/meminfo}" 2>/dev/null) || true
  if [ -n "$kilobytes" ] && ((kilobytes / 1600000 < jobs)); then jobs=$((kilobytes / 1600000)); fi
  echo $((jobs > 0 ? jobs : 1))
}

# build <folder> <target or option>...: on a terminal one line that counts, elsewhere nothing but warnings and errors.
build() {
  local quiet=()
  [ -t 1 ] || quiet=(-- --quiet)
  # The bash of macOS takes an empty list for an unset one.
  cmake --build "$1" -j "$(build_jobs)" "${@:2}" ${quiet[@]+"${quiet[@]}"}
}
