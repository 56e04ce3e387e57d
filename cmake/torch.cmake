# One shim target, rlhf_torch, stands between this project and libtorch. It exists because the stock
# `torch` target would do three things to every file that links it:
#   - put torch's bundled fmt 12 before the system's fmt and drown our warnings in its own: so its include
#     directories are given back as -idirafter;
#   - leave at::parallel_for silently serial, as the headers pick the OpenMP branch at compile time: so
#     -fopenmp is passed on;
#   - let --as-needed drop libtorch.so, which carries the CUDA libraries: so it is linked --no-as-needed.

# Where a virtual environment made by `make setup` holds the wheel.
if(NOT Torch_DIR AND NOT "$ENV{Torch_DIR}" STREQUAL "")
  set(Torch_DIR "$ENV{Torch_DIR}")
endif()
if(NOT Torch_DIR)
  file(GLOB RLHF_TORCH_WHEEL "${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch/share/cmake")
  list(APPEND CMAKE_PREFIX_PATH ${RLHF_TORCH_WHEEL})
endif()
find_package(Torch QUIET)
if(NOT Torch_FOUND)
  message(FATAL_ERROR "[cmake] libtorch 2.11 to 2.13 was expected, none was found. HINT: run `make setup`, or "
                      "pass -DCMAKE_PREFIX_PATH=<libtorch> or -DTorch_DIR=<libtorch>/share/cmake/Torch.")
endif()

# TorchConfigVersion answers for compatibility only; the version itself stands in the headers.
list(GET TORCH_INCLUDE_DIRS 0 RLHF_TORCH_INCLUDE)
set(RLHF_TORCH_VERSION "")
foreach(part MAJOR MINOR PATCH)
  file(STRINGS "${RLHF_TORCH_INCLUDE}/torch/headeronly/version.h" line REGEX "#define TORCH_VERSION_${part} ")
  string(REGEX MATCH "[0-9]+$" number "${line}")
  list(APPEND RLHF_TORCH_VERSION "${number}")
endforeach()
list(JOIN RLHF_TORCH_VERSION "." RLHF_TORCH_VERSION)
if(RLHF_TORCH_VERSION VERSION_LESS 2.11 OR RLHF_TORCH_VERSION VERSION_GREATER_EQUAL 2.14)
  message(FATAL_ERROR "[cmake] libtorch 2.11 to 2.13 was expected, got ${RLHF_TORCH_VERSION}. HINT: "
                      "point CMAKE_PREFIX_PATH at a supported libtorch or unset it and run `make setup`.")
endif()
message(STATUS "libtorch ${RLHF_TORCH_VERSION}: ${RLHF_TORCH_INCLUDE}")

add_library(rlhf_torch INTERFACE IMPORTED GLOBAL)
foreach(dir IN LISTS TORCH_INCLUDE_DIRS)
  if(EXISTS "${dir}")
    target_compile_options(rlhf_torch INTERFACE "SHELL:-idirafter ${dir}")
  endif()
endforeach()
target_compile_options(rlhf_torch INTERFACE -fopenmp)
get_filename_component(RLHF_TORCH_LIBDIR "${TORCH_LIBRARY}" DIRECTORY)
set(RLHF_TORCH_LIBS "")
foreach(name torch torch_cpu c10 torch_cuda c10_cuda)
  if(EXISTS "${RLHF_TORCH_LIBDIR}/lib${name}.so")
    list(APPEND RLHF_TORCH_LIBS "${RLHF_TORCH_LIBDIR}/lib${name}.so")
  endif()
endforeach()
# torch's own libgomp: a second copy of the runtime would keep a second pool of threads.
file(GLOB RLHF_TORCH_GOMP "${RLHF_TORCH_LIBDIR}/libgomp*.so*")
target_link_libraries(
  rlhf_torch INTERFACE "-Wl,--push-state,--no-as-needed" ${RLHF_TORCH_LIBS} "-Wl,--pop-state" ${RLHF_TORCH_GOMP}
                       Threads::Threads)
target_link_options(rlhf_torch INTERFACE "-Wl,-rpath,${RLHF_TORCH_LIBDIR}")
if(NOT RLHF_TORCH_GOMP)
  target_link_options(rlhf_torch INTERFACE -fopenmp)
endif()

# What went wrong silently elsewhere is run here, once per configuration.
if(NOT RLHF_TORCH_CHECKED STREQUAL RLHF_TORCH_LIBDIR)
  try_run(
    RLHF_TORCH_RUN RLHF_TORCH_COMPILED "${CMAKE_BINARY_DIR}/torch-check"
    SOURCES "${CMAKE_CURRENT_LIST_DIR}/torch_check.cpp"
    LINK_LIBRARIES rlhf_torch fmt::fmt
    CXX_STANDARD 20
    COMPILE_OUTPUT_VARIABLE RLHF_TORCH_COMPILE_OUTPUT
    RUN_OUTPUT_VARIABLE RLHF_TORCH_RUN_OUTPUT)
  if(NOT RLHF_TORCH_COMPILED OR NOT RLHF_TORCH_RUN EQUAL 0)
    message(FATAL_ERROR "[cmake] the libtorch run check failed:\n${RLHF_TORCH_RUN_OUTPUT}\n"
                        "${RLHF_TORCH_COMPILE_OUTPUT}")
  endif()
  message(STATUS "libtorch check: ${RLHF_TORCH_RUN_OUTPUT}")
  set(RLHF_TORCH_CHECKED "${RLHF_TORCH_LIBDIR}" CACHE INTERNAL "")
endif()
