# rlhf_embed(TARGET NAMESPACE NAME FILE [NAME FILE]...): compiles files into TARGET. The assembler reads them (.incbin), so size costs no compile
# time. Every FILE becomes `std::string_view rlhf::NAMESPACE::NAME()`, declared in "NAMESPACE.h".
function(rlhf_embed target namespace)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/embedded")
  set(header "// Made by cmake/embed.cmake.\n#pragma once\n\n#include <string_view>\n\nnamespace rlhf::${namespace} {\n")
  set(source "// Made by cmake/embed.cmake.\n#include \"${namespace}.h\"\n\n")
  set(pairs ${ARGN})
  set(files "")
  while(pairs)
    list(POP_FRONT pairs name file)
    list(APPEND files "${file}")
    set(symbol "rlhf_${namespace}_${name}")
    string(APPEND header "std::string_view ${name}();\n")
    string(APPEND source "asm(R\"(\n  .pushsection .rodata\n  .global ${symbol}, ${symbol}_end\n${symbol}:\n"
                         "  .incbin \"${file}\"\n${symbol}_end:\n  .byte 0\n  .popsection\n)\");\n"
                         "extern \"C\" const char ${symbol}[], ${symbol}_end[];\n"
                         "std::string_view rlhf::${namespace}::${name}() {\n"
                         "  return {${symbol}, static_cast<std::size_t>(${symbol}_end - ${symbol})};\n}\n\n")
  endwhile()
  file(CONFIGURE OUTPUT "${folder}/${namespace}.h" CONTENT "${header}}\n" @ONLY)
  file(CONFIGURE OUTPUT "${folder}/${namespace}.cpp" CONTENT "${source}" @ONLY)
  target_sources(${target} PRIVATE "${folder}/${namespace}.cpp")
  set_source_files_properties("${folder}/${namespace}.cpp" PROPERTIES OBJECT_DEPENDS "${files}" SKIP_PRECOMPILE_HEADERS ON)
  target_include_directories(${target} PRIVATE "${folder}")
endfunction()
