# 64-bit ARM from another machine, whose programs qemu runs. Debian: g++-aarch64-linux-gnu qemu-user googletest
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)  # GoogleTest asks for one
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
# Debian has these headers, which fit any machine, filed under that of the package.
file(GLOB xsimd_ROOT /usr/lib/*-linux-gnu/cmake/xsimd)
