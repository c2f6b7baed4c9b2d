// refused: what a workspace holds is given back without a destructor
#include <string>

#include "gatefold/core/workspace.hpp"

void take(gatefold::Workspace& workspace) {
  (void)workspace.take<float>(3);
#ifdef GATEFOLD_OFFEND
  (void)workspace.take<std::string>(3);
#endif
}
