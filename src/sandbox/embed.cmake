# Writes OUT, a C++ source that defines for each file of PARTS what scripts.h declares.
set(source "// Generated from python/ by embed.cmake.\n#include \"sandbox/scripts.h\"\n\n")
string(APPEND source "namespace narrow::sandbox {\nnamespace {\n")
set(views "")
foreach(part ${PARTS})
  get_filename_component(name ${part} NAME_WE)
  file(READ ${part} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND source "constexpr unsigned char k_${name}[] = {${bytes}};\n")
  string(APPEND views "std::string_view ${name}_py() {\n"
    "  return {reinterpret_cast<const char*>(k_${name}), sizeof(k_${name})};\n}\n")
endforeach()
string(APPEND source "}  // namespace\n\n${views}\n}  // namespace narrow::sandbox\n")
file(WRITE ${OUT} "${source}")
