#!/usr/bin/env python3
"""Writes include/gatefold/text/html_entity_table.hpp: the named character references of HTML (the WHATWG's list, as
Python's html.entities.html5 has it; the list has been frozen since 2013).

Made with Python 3.11:
    python3 make_html_entities.py
"""
import html.entities
import pathlib
import textwrap

table = html.entities.html5
words = []
for name in sorted({key.rstrip(";") for key in table}):
    value = table[name + ";"]
    assert table.get(name, value) == value and name.isalnum() and name.isascii()
    words.append(name + ("~" if name in table else "=") + ",".join(f"{ord(c):x}" for c in value))
lines = textwrap.wrap(" ".join(words), 112, break_long_words=False)
body = "\n".join(f'    "{line} "' for line in lines)
path = pathlib.Path(__file__).parents[2] / "include/gatefold/text/html_entity_table.hpp"
path.write_text(f"""#pragma once
#include "gatefold/core/language.hpp"

// Written by tests/data/make_html_entities.py from the WHATWG's list of named character references.

namespace gatefold::detail {{

/// «name=code» or «name=code,code» (hexadecimal) each; «name~code» where browsers also take the name without its
/// semicolon.
inline constexpr char kHtmlEntities[] =
{body};

}}  // namespace gatefold::detail
""")
