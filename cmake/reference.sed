# What doxygen must be told of our comments.
# A plain comment behind a member, mostly its axes, is of that member.
s,;  // ,;  ///< ,
# Which flags a program has is in a namespace that nobody writes.
/^inline namespace GATEFOLD_COMPILED_FOR/d
/^\}  \/\/ namespace GATEFOLD_COMPILED_FOR/d
# They hold patterns and tags, but no commands of doxygen.
/\/\/\//{
s,\\,\\\\,g
s,#,\\#,g
s,<(\w+)>,\\<\1\\>,g
}
