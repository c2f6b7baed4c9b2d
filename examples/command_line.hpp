#pragma once
#include <CLI/CLI.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "gatefold/version.hpp"
#include "program.hpp"

namespace gatefold {

// What the programs add to CLI11 (2.1 and later): words are taken as they are, mistakes come in our words, and the help
// does not depend on the version.

/// More threads than any machine has; some thousands make OpenMP crash.
inline constexpr int kMaxThreads = 1024;

namespace detail {

/// Stands behind each argument that CLI11 would take apart, «[a, b]» and «{}», until a text option takes it off.
inline constexpr char kAsGiven = '\x1f';

inline std::string version_of(const std::string& name) { return name + " (gatefold) " GATEFOLD_VERSION_STRING; }

inline std::string as_given(std::string text) {
  if (text.ends_with(kAsGiven)) text.pop_back();
  return text;
}

/// How many letters must be put in, taken out, exchanged or turned round.
inline std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i)
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

inline std::vector<const CLI::App*> with_commands(const CLI::App& app) {
  std::vector<const CLI::App*> all{&app};
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) all.push_back(command);
  return all;
}

/// «; did you mean --labels?» for the first argument that is nearly an option.
inline std::string nearest_option(const CLI::App& app, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view given = std::string_view(argv[i]).substr(0, std::string_view(argv[i]).find('='));
    if (!given.starts_with('-') || given.size() < 3 || given.size() > 64) continue;
    std::string nearest;
    std::size_t least = 3;
    for (const auto* command : with_commands(app))
      for (const auto* option : command->get_options())
        for (const auto& name : option->get_lnames()) {
          if ("--" + name == given) least = 0;
          if (const auto d = distance(given, "--" + name); d < least) least = d, nearest = "--" + name;
        }
    if (least > 0 && !nearest.empty()) return "; did you mean " + nearest + "?";
  }
  return "";
}

/// «INT [1 - 10]», «TEXT {a, b}», of a type with what CLI11 puts behind it.
inline std::string type_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto checks = type.find(':'), values = type.find_first_of("[{", checks);
  return type.substr(0, checks) + (values == type.npos ? "" : " " + type.substr(values));
}

/// What a program says of itself in lines of at most `width` columns. Lines that are indented are examples: a command
/// and, behind two spaces or more, what it does. Where one of them is too long, what they do stands below all of them,
/// and a command goes on in the next line as a shell takes it.
inline std::string folded(const std::string& text, Index width) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at = std::min(text.find('\n', at), text.size()) + 1)
    lines.push_back(text.substr(at, text.find('\n', at) - at));
  const auto is_example = [](const std::string& line) { return line.starts_with(' '); };
  const bool side_by_side = std::ranges::none_of(
      lines, [&](const auto& line) { return is_example(line) && zero_shot::columns(line) > width; });
  std::string all;
  for (const auto& line : lines) {
    if (!is_example(line)) {
      all += zero_shot::wrapped(line, width) + "\n";
      continue;
    }
    const auto begin = std::min(line.find_first_not_of(' '), line.size());
    if (side_by_side || begin == line.size()) {
      all += line + "\n";
      continue;
    }
    const auto end = std::min(line.find("  ", begin), line.size());
    const auto words = std::min(line.find_first_not_of(' ', end), line.size());
    const auto indent = static_cast<Index>(begin);
    Index used = 0;
    for (std::size_t at = begin; at < end;) {
      auto next = at;  // the end of the word: a space, unless it stands within quotes
      for (bool quoted = false; next < end && (quoted || line[next] != ' '); ++next)
        if (line[next] == '"') quoted = !quoted;
      const auto word = line.substr(at, next - at);
      const Index size = zero_shot::columns(word), goes_on = next < end ? 2 : 0;
      if (used == 0) {
        all += std::string(begin, ' ');
        used = indent;
      } else if (used + 1 + size + goes_on > width) {
        all += " \\\n" + std::string(begin + 4, ' ');
        used = indent + 4;
      } else {
        all += " ";
        ++used;
      }
      all += word;
      used += size;
      at = next + 1;
    }
    all += "\n";
    if (words < line.size()) all += zero_shot::wrapped(line.substr(words), width, indent + 4) + "\n";
  }
  return all;
}

inline std::string help_of(const CLI::App& app, const std::string& name, Index width) {
  std::string usage = "Usage: " + name, text = folded(app.get_description(), width);
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (!commands.empty()) usage += " COMMAND";
  std::vector<std::string> groups;
  for (const auto* option : app.get_options()) {
    if (!option->nonpositional())
      usage += option->get_required() ? " " + option->get_name() : " [" + option->get_name() + "]";
    if (std::find(groups.begin(), groups.end(), option->get_group()) == groups.end())
      groups.push_back(option->get_group());
  }
  text += "\n" + zero_shot::wrapped(usage + " [OPTION...]", width) + "\n";
  if (!commands.empty()) text += "\nCommands (each has --help):\n";
  for (const auto* command : commands)
    text += "  " + command->get_name() + "\n" + zero_shot::wrapped(command->get_description(), width, 6) + "\n";
  for (const auto& group : groups) {
    text += "\n" + group + ":\n";
    for (const auto* option : app.get_options()) {
      if (option->get_group() != group) continue;
      std::string head = option->get_name(false, true);
      if (option->get_items_expected_max() > 0) head += " " + type_of(*option);
      if (const auto preset = option->get_default_str(); !preset.empty()) head += " = " + preset;
      text += zero_shot::wrapped(head, width, 2) + "\n";
      text += zero_shot::wrapped(option->get_description(), width, 6) + "\n";
    }
  }
  return text;
}

template <class To>
concept TextList = requires(To& to, std::string text) {
  typename To::value_type;
  to.emplace_back(text);
};

}  // namespace detail

/// An option for texts or paths, one or (std::vector) several, which are taken as they are given. CLI11's own takes
/// «[a, b]» for a list and «{}» for an empty one.
template <class To>
CLI::Option* add_texts(CLI::App& app, const std::string& name, To& to, const std::string& description) {
  const CLI::callback_t take = [&to](const CLI::results_t& given) {
    if constexpr (detail::TextList<To>) {
      to.clear();
      for (const auto& text : given) to.emplace_back(detail::as_given(text));
    } else {
      to = given.empty() ? To() : To(detail::as_given(given.front()));
    }
    return true;
  };
  auto* option = app.add_option(name, take, description);
  if constexpr (detail::TextList<To>)
    option->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args()->type_name("TEXT...");
  else
    option->expected(1)->type_name("TEXT");
  return option;
}

/// --threads, for all programs alike.
inline CLI::Option* add_threads(CLI::App& app, int& threads) {
  return app
      .add_option("--threads", threads,
                  "how many at once, 1 to " + std::to_string(kMaxThreads) + "; 0: as many as the machine has")
      ->capture_default_str()
      ->check(CLI::Validator(
          [](const std::string& text) -> std::string {
            int value = -1;
            if (CLI::detail::lexical_cast(text, value) && value >= 0 && value <= kMaxThreads) return "";
            return "is " + text + ", expected 0 to " + std::to_string(kMaxThreads);
          },
          "", "threads"));
}

/// Parses; answers --help and --version itself, in which case it returns false and the program is done. Throws
/// UsageError in words.
inline bool parse_command_line(CLI::App& app, const std::string& name, int argc, char** argv) {
  app.set_version_flag("--version", detail::version_of(name), "print the version");
  std::vector<std::string> arguments;  // which CLI11 takes from the back
  for (int i = argc; i-- > 1;) {
    arguments.emplace_back(argv[i]);
    if (const auto& text = arguments.back(); text.ends_with(']') || text.ends_with('}') || text.ends_with('%'))
      arguments.back() += detail::kAsGiven;
  }
  // Lists take it off themselves, when CLI11 is done with them.
  for (const auto* command : detail::with_commands(app))
    for (const auto* option : command->get_options())
      if (!option->get_type_name().ends_with("..."))
        const_cast<CLI::Option*>(option)->transform(CLI::Validator(
            [](std::string& text) -> std::string {
              text = detail::as_given(std::move(text));
              return "";
            },
            "", "as given"));
  const auto width = zero_shot::terminal_of(STDOUT_FILENO).width;
  try {
    app.parse(arguments);
    return true;
  } catch (const CLI::CallForVersion&) {
    std::cout << detail::version_of(name) << "\n";
  } catch (const CLI::CallForHelp&) {
    const auto used = app.get_subcommands();
    std::cout << (used.empty() ? detail::help_of(app, name, width)
                               : detail::help_of(*used.front(), name + " " + used.front()->get_name(), width));
  } catch (const CLI::ParseError& error) {
    std::string why = error.what();
    std::erase(why, detail::kAsGiven);
    throw UsageError(why + detail::nearest_option(app, argc, argv) + " (" + name + " --help tells what there is)");
  }
  return false;
}

}  // namespace gatefold
