#pragma once
#include "gatefold/core/context.hpp"

namespace gatefold {

/// Lets the layers see the layout of the rows they are given, and no longer than they run: a scope around forward is
/// enough, and so is a layout that dies after it.
class LayoutScope {
 public:
  LayoutScope(Context& ctx, const TokenLayout& layout) : ctx_(ctx), before_(ctx.layout) { ctx.layout = &layout; }
  ~LayoutScope() { ctx_.layout = before_; }
  LayoutScope(const LayoutScope&) = delete;
  LayoutScope& operator=(const LayoutScope&) = delete;

 private:
  Context& ctx_;
  const TokenLayout* before_;
};

}  // namespace gatefold
