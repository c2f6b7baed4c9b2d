#pragma once
#include "train_limoe/arguments.hpp"
#include "train_limoe/run.hpp"
#include "training/run_folder.hpp"

namespace train_limoe {

/// A model whose self-check was replayed. Throws FormatError if that is off.
gatefold::LimoeFile load_verified(const std::filesystem::path& path, const Context& ctx);

/// Writes the model for use, in bf16, with its card and a probe, and puts it in its place when it has been read back
/// and answers as it should. Throws FormatError or std::system_error, and then the old model is still there.
void publish(Run& run, const wardrobe::FashionMnist& data, const std::filesystem::path& path);

/// The routing of mixed batches of unseen photos with the seats of training, as the paper's success rates are taken.
gatefold::RoutingReport observe_routing(Run& run, const wardrobe::Photos& photos);

/// What the model can do and how its experts share the work, on pictures it has not seen: to the terminal, to report.md
/// and, for programs, to summary.json.
void evaluate(Run& run, const wardrobe::FashionMnist& data, const training::RunFolder& folder);

/// The table of a model file, with the weights as they are stored.
void evaluate_file(const Arguments& args);

}  // namespace train_limoe
