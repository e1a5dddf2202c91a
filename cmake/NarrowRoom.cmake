# narrow_room(NAME [USES room...] [LINK target...])
#
# Declares the room in the current folder: every *.cc below it is the static library narrow_NAME,
# every *_test.cc is part of the test program NAME_test. USES names the rooms whose headers this
# room may include (docs/architecture.md has the table); tests/check_layers.py holds the includes
# to it. LINK names outside libraries.
function(narrow_room name)
  cmake_parse_arguments(ROOM "" "" "USES;LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  # Device code is a library of its own (src/ops/cuda/CMakeLists.txt), the jail's helper a program.
  list(FILTER sources EXCLUDE REGEX "/cuda/|/sandbox/helper/")
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")

  list(TRANSFORM ROOM_USES PREPEND narrow_)
  if(sources)
    add_library(narrow_${name} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(narrow_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(narrow_${name} ${scope} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(narrow_${name} ${scope} ${ROOM_USES} ${ROOM_LINK})

  if(NARROW_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE narrow_${name} GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE NARROW_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    add_test(NAME ${name} COMMAND ${name}_test WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT 120)
  endif()
endfunction()
