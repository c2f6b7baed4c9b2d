#pragma once

// The only place with the version number; the build reads it from here.
#define GATEFOLD_VERSION_MAJOR 0
#define GATEFOLD_VERSION_MINOR 1
#define GATEFOLD_VERSION_PATCH 0
