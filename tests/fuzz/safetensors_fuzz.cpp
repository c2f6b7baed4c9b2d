// Build and run:
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/safetensors_fuzz.cpp -o fuzz
//   ./fuzz -dict=tests/fuzz/safetensors.dict NEW_FINDINGS_FOLDER tests/fuzz/corpus/safetensors
#include <cstdio>
#include <cstdlib>

#include "gatefold/io/checkpoint.hpp"

namespace {
using namespace gatefold;

// A wrong answer must stop the fuzzer as a bad access does, also without assertions.
void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

template <Stored T>
void decode_all(const SafeTensors::Entry& entry) {
  std::vector<T> out(entry.bytes.size() / size_bytes(entry.dtype));
  if (decodes_to<T>(entry.dtype)) decode<T>(entry.dtype, entry.bytes, out);
}

// Whatever is accepted keeps every promise of the format, can be decoded, and survives writing and reading.
void check(const SafeTensors& file) {
  SafeTensorsWriter writer;
  std::size_t total = 0;
  for (const auto& entry : file.entries()) {
    require(file.find(entry.name) == &entry, "every tensor is found under its name");
    std::size_t wanted = size_bytes(entry.dtype);
    for (const Index extent : entry.shape) wanted *= static_cast<std::size_t>(extent);
    require(wanted == entry.bytes.size(), "shape x dtype equals the span");
    total += wanted;
    decode_all<float>(entry), decode_all<double>(entry), decode_all<bf16>(entry);
    decode_all<std::int8_t>(entry), decode_all<std::uint16_t>(entry), decode_all<std::int64_t>(entry);
    writer.add_bytes(entry.name, entry.dtype, entry.shape, entry.bytes);
  }
  for (const auto& [key, value] : file.metadata()) writer.add_metadata(key, value);

  const auto bytes = writer.bytes();
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  require(bytes.size() == sizeof(header) + header + total, "the tensors cover the data");
  const SafeTensors again(bytes);
  require(again.metadata() == file.metadata(), "metadata survives writing");
  require(std::ranges::equal(again.entries(), file.entries(),
                             [](const auto& a, const auto& b) {
                               return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape &&
                                      std::ranges::equal(a.bytes, b.bytes);
                             }),
          "tensors survive writing");

  const CheckpointReader reader{SafeTensors(bytes)};
  for (const auto& name : reader.names("")) try {
      (void)reader.read_tensor<float, 2>(name);
    } catch (const CheckpointError&) {
    }
}

void try_file(std::span<const std::byte> bytes) {
  try {
    check(SafeTensors(bytes));
  } catch (const FormatError&) {
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  try_file(input);
  // Mutations seldom keep the length in step with the header, so the input is also taken as the header alone, in
  // front of as many bytes of data as its last byte says.
  if (input.empty()) return 0;
  const std::uint64_t length = size - 1;
  std::vector<std::byte> file(sizeof(length) + size - 1 + data[size - 1], std::byte{0x3c});
  std::memcpy(file.data(), &length, sizeof(length));
  if (length) std::memcpy(file.data() + sizeof(length), data, length);
  try_file(file);
  return 0;
}
