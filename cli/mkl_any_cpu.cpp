// The vector kernels of MKL on every maker's CPU.
//
// libtorch's CPU wheel carries MKL, which asks this function whether the maker is Intel before it
// takes its AVX-512 (or AVX2) kernels; on other CPUs with the same instructions it falls back to
// slower ones. The program answers for itself: what decides is the instructions that the CPU has,
// which MKL checks beside. On an AMD EPYC of family 25 (Zen 4) products of fp32 gain 10% to 45%
// (docs/negative-results.md has the other way that was measured, oneDNN's). Nothing changes on an
// Intel CPU, nor where libtorch was built without MKL. Only the program does so: the library leaves
// the process it is linked into alone.
extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true();
extern "C" int mkl_serv_intel_cpu_true() { return 1; }
