"""Conan 2: conan create cmake/conan --build=missing

With -o "gatefold/*:system=True" Eigen, xsimd and the rest are those of the system, as CMake finds them."""

import os
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load

CHECKOUT = os.path.join("..", "..")


class Gatefold(ConanFile):
    name = "gatefold"
    description = "Mixture-of-experts layers, forward and backward, for float and double"
    license = "Apache-2.0"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"io": [True, False], "image": [True, False], "text": [True, False], "system": [True, False]}
    default_options = {"io": True, "image": False, "text": False, "system": False}

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, CHECKOUT, "include", "gatefold", "version.hpp"))
        self.version = ".".join(
            re.search(rf"GATEFOLD_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))

    def export_sources(self):
        checkout = os.path.join(self.recipe_folder, CHECKOUT)
        for pattern in ("include/*", "cmake/*.cmake", "cmake/*.in", "CMakeLists.txt", "LICENSE"):
            copy(self, pattern, checkout, self.export_sources_folder)

    def requirements(self):
        if self.options.system:
            return
        self.requires("eigen/[>=3.4 <6]", transitive_headers=True)
        self.requires("xsimd/[>=8.1 <15]", transitive_headers=True)
        if self.options.io:
            self.requires("nlohmann_json/[>=3.11]", transitive_headers=True)
            self.requires("xxhash/[>=0.8]", transitive_headers=True)
        if self.options.image:
            self.requires("stb/[*]", transitive_headers=True)
        if self.options.text:
            self.requires("utf8proc/[>=2]", transitive_headers=True, transitive_libs=True)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "BENCH", "EXAMPLES"):
            toolchain.cache_variables[f"GATEFOLD_BUILD_{part}"] = False
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        self.info.settings.clear()

    def package_info(self):
        # Our own package files, which know the components and gatefold::compiled.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "gatefold")]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
