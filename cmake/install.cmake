# `cmake --install`: the program, the library, its headers and a package for find_package(rlhf).
