#pragma once
// Private copies of stb_image and stb_image_write (public domain), PNG and JPEG only. Everything below is `static` and
// lives in a namespace of ours, so two translation units do not clash, nor does a program that carries its own stb:
// each macro of stb that changes what a later include means is put back as it was.
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gatefold/image/jpeg_kernels.hpp"

namespace gatefold::detail {

/// The most bytes one allocation of the decoder may ask for. Set from the image's declared size before each decode, so
/// that a small file cannot unpack to gigabytes (zlib grows a thousandfold).
inline thread_local size_t stb_allocation_limit = 0;

/// Whether the machine had less than the limit allows, which is no fault of the file.
inline thread_local bool stb_out_of_memory = false;

inline void* stb_given(void* block) {
  stb_out_of_memory = stb_out_of_memory || !block;
  return block;
}
/// Zeroed: a damaged progressive JPEG makes stb read coefficients that no scan has written.
inline void* stb_allocate(size_t bytes) {
  return bytes <= stb_allocation_limit ? stb_given(calloc(bytes, 1)) : nullptr;
}
inline void* stb_reallocate(void* block, size_t bytes) {
  return bytes <= stb_allocation_limit ? stb_given(realloc(block, bytes)) : nullptr;
}

}  // namespace gatefold::detail

#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_STATIC")
#pragma push_macro("STBIDEF")
#pragma push_macro("STBI_ONLY_PNG")
#pragma push_macro("STBI_ONLY_JPEG")
#pragma push_macro("STBI_NO_BMP")
#pragma push_macro("STBI_NO_PSD")
#pragma push_macro("STBI_NO_TGA")
#pragma push_macro("STBI_NO_GIF")
#pragma push_macro("STBI_NO_HDR")
#pragma push_macro("STBI_NO_PIC")
#pragma push_macro("STBI_NO_PNM")
#pragma push_macro("STBI_NO_LINEAR")
#pragma push_macro("STBI_NO_STDIO")
#pragma push_macro("STBI_NO_SIMD")
#pragma push_macro("STBI_SIMD_ALIGN")
#pragma push_macro("STBI_MALLOC")
#pragma push_macro("STBI_REALLOC")
#pragma push_macro("STBI_REALLOC_SIZED")
#pragma push_macro("STBI_FREE")
#pragma push_macro("stbi__err")
#pragma push_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma push_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_WRITE_STATIC")
#pragma push_macro("STBIWDEF")
#pragma push_macro("STBI_WRITE_NO_STDIO")

#undef STBI_INCLUDE_STB_IMAGE_H
#undef STBIDEF
#undef STBI_SIMD_ALIGN
#undef STBI_MALLOC
#undef STBI_REALLOC
#undef STBI_REALLOC_SIZED
#undef STBI_FREE
#undef stbi__err
#undef INCLUDE_STB_IMAGE_WRITE_H
#undef STBIWDEF
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBI_ONLY_PNG
#undef STBI_ONLY_JPEG
#undef STBI_NO_STDIO
#undef STBI_NO_SIMD
#undef STB_IMAGE_WRITE_IMPLEMENTATION
#undef STB_IMAGE_WRITE_STATIC
#undef STBI_WRITE_NO_STDIO

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_SIMD  // no intrinsics headers inside a namespace; the pixels are the same
#define STBI_MALLOC(bytes) ::gatefold::detail::stb_allocate(bytes)
#define STBI_REALLOC(block, bytes) ::gatefold::detail::stb_reallocate(block, bytes)
#define STBI_FREE(block) free(block)
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wmisleading-indentation"
// The coefficients of a damaged JPEG may overflow stb's signed arithmetic. They only become pixels, never an index or
// a size, so the sanitizer is told to let them wrap; it keeps watching every access.
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("signed-integer-overflow", "shift"))), apply_to = function)
#endif
namespace gatefold::detail::stb {
inline constexpr auto* stbi__idct_block = jpeg_idct;
inline constexpr auto* stbi__YCbCr_to_RGB_row = jpeg_rgb_row;
inline constexpr auto* stbi__resample_row_h_2 = jpeg_double_width;
inline constexpr auto* stbi__resample_row_hv_2 = jpeg_double_both;
// stb takes the address of its functions of these names: their definitions, where a parenthesis follows, are renamed,
// and the names mean ours.
#define stbi__idct_block(...) stbi__idct_block_of_stb(__VA_ARGS__)
#define stbi__YCbCr_to_RGB_row(...) stbi__YCbCr_to_RGB_row_of_stb(__VA_ARGS__)
#define stbi__resample_row_h_2(...) stbi__resample_row_h_2_of_stb(__VA_ARGS__)
#define stbi__resample_row_hv_2(...) stbi__resample_row_hv_2_of_stb(__VA_ARGS__)
// stb declares these extern "C", static or not: unrenamed, ours and those of a program's own stb would be one symbol
// of the assembler wherever the compiler keeps both, as it does without optimisation.
#define stbi_convert_iphone_png_to_rgb gatefold_stbi_convert_iphone_png_to_rgb
#define stbi_convert_iphone_png_to_rgb_thread gatefold_stbi_convert_iphone_png_to_rgb_thread
#define stbi_failure_reason gatefold_stbi_failure_reason
#define stbi_hdr_to_ldr_gamma gatefold_stbi_hdr_to_ldr_gamma
#define stbi_hdr_to_ldr_scale gatefold_stbi_hdr_to_ldr_scale
#define stbi_image_free gatefold_stbi_image_free
#define stbi_info_from_callbacks gatefold_stbi_info_from_callbacks
#define stbi_info_from_memory gatefold_stbi_info_from_memory
#define stbi_is_16_bit_from_callbacks gatefold_stbi_is_16_bit_from_callbacks
#define stbi_is_16_bit_from_memory gatefold_stbi_is_16_bit_from_memory
#define stbi_is_hdr_from_callbacks gatefold_stbi_is_hdr_from_callbacks
#define stbi_is_hdr_from_memory gatefold_stbi_is_hdr_from_memory
#define stbi_ldr_to_hdr_gamma gatefold_stbi_ldr_to_hdr_gamma
#define stbi_ldr_to_hdr_scale gatefold_stbi_ldr_to_hdr_scale
#define stbi_load_16_from_callbacks gatefold_stbi_load_16_from_callbacks
#define stbi_load_16_from_memory gatefold_stbi_load_16_from_memory
#define stbi_load_from_callbacks gatefold_stbi_load_from_callbacks
#define stbi_load_from_memory gatefold_stbi_load_from_memory
#define stbi_loadf_from_callbacks gatefold_stbi_loadf_from_callbacks
#define stbi_loadf_from_memory gatefold_stbi_loadf_from_memory
#define stbi_set_flip_vertically_on_load gatefold_stbi_set_flip_vertically_on_load
#define stbi_set_flip_vertically_on_load_thread gatefold_stbi_set_flip_vertically_on_load_thread
#define stbi_set_unpremultiply_on_load gatefold_stbi_set_unpremultiply_on_load
#define stbi_set_unpremultiply_on_load_thread gatefold_stbi_set_unpremultiply_on_load_thread
#define stbi_zlib_decode_buffer gatefold_stbi_zlib_decode_buffer
#define stbi_zlib_decode_malloc gatefold_stbi_zlib_decode_malloc
#define stbi_zlib_decode_malloc_guesssize gatefold_stbi_zlib_decode_malloc_guesssize
#define stbi_zlib_decode_malloc_guesssize_headerflag gatefold_stbi_zlib_decode_malloc_guesssize_headerflag
#define stbi_zlib_decode_noheader_buffer gatefold_stbi_zlib_decode_noheader_buffer
#define stbi_zlib_decode_noheader_malloc gatefold_stbi_zlib_decode_noheader_malloc
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#else  // vcpkg's and others' have no folder
#include <stb_image.h>
#include <stb_image_write.h>
#endif
#undef stbi_convert_iphone_png_to_rgb
#undef stbi_convert_iphone_png_to_rgb_thread
#undef stbi_failure_reason
#undef stbi_hdr_to_ldr_gamma
#undef stbi_hdr_to_ldr_scale
#undef stbi_image_free
#undef stbi_info_from_callbacks
#undef stbi_info_from_memory
#undef stbi_is_16_bit_from_callbacks
#undef stbi_is_16_bit_from_memory
#undef stbi_is_hdr_from_callbacks
#undef stbi_is_hdr_from_memory
#undef stbi_ldr_to_hdr_gamma
#undef stbi_ldr_to_hdr_scale
#undef stbi_load_16_from_callbacks
#undef stbi_load_16_from_memory
#undef stbi_load_from_callbacks
#undef stbi_load_from_memory
#undef stbi_loadf_from_callbacks
#undef stbi_loadf_from_memory
#undef stbi_set_flip_vertically_on_load
#undef stbi_set_flip_vertically_on_load_thread
#undef stbi_set_unpremultiply_on_load
#undef stbi_set_unpremultiply_on_load_thread
#undef stbi_zlib_decode_buffer
#undef stbi_zlib_decode_malloc
#undef stbi_zlib_decode_malloc_guesssize
#undef stbi_zlib_decode_malloc_guesssize_headerflag
#undef stbi_zlib_decode_noheader_buffer
#undef stbi_zlib_decode_noheader_malloc
#undef stbi__idct_block
#undef stbi__YCbCr_to_RGB_row
#undef stbi__resample_row_h_2
#undef stbi__resample_row_hv_2
}  // namespace gatefold::detail::stb
#ifdef __clang__
#pragma clang attribute pop
#endif
#pragma GCC diagnostic pop

#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#pragma pop_macro("STB_IMAGE_STATIC")
#pragma pop_macro("STBIDEF")
#pragma pop_macro("STBI_ONLY_PNG")
#pragma pop_macro("STBI_ONLY_JPEG")
#pragma pop_macro("STBI_NO_BMP")
#pragma pop_macro("STBI_NO_PSD")
#pragma pop_macro("STBI_NO_TGA")
#pragma pop_macro("STBI_NO_GIF")
#pragma pop_macro("STBI_NO_HDR")
#pragma pop_macro("STBI_NO_PIC")
#pragma pop_macro("STBI_NO_PNM")
#pragma pop_macro("STBI_NO_LINEAR")
#pragma pop_macro("STBI_NO_STDIO")
#pragma pop_macro("STBI_NO_SIMD")
#pragma pop_macro("STBI_SIMD_ALIGN")
#pragma pop_macro("STBI_MALLOC")
#pragma pop_macro("STBI_REALLOC")
#pragma pop_macro("STBI_REALLOC_SIZED")
#pragma pop_macro("STBI_FREE")
#pragma pop_macro("stbi__err")
#pragma pop_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma pop_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma pop_macro("STB_IMAGE_WRITE_STATIC")
#pragma pop_macro("STBIWDEF")
#pragma pop_macro("STBI_WRITE_NO_STDIO")
