#include "gatefold/text/unicode.hpp"

int main() { return gatefold::to_lower("Ä") == "ä" && gatefold::to_nfc("A\u0308") == "Ä" ? 0 : 1; }
