# SPDX-License-Identifier: Apache-2.0
# The rules every target follows: language level, warnings, sanitizers, precompiled headers, and the two
# functions that declare a library and a test.

include_guard(GLOBAL)
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(GTest REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json url)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)
pkg_check_modules(LIBNL_ROUTE REQUIRED IMPORTED_TARGET libnl-route-3.0)
pkg_check_modules(LIBMNL REQUIRED IMPORTED_TARGET libmnl)
pkg_check_modules(LIBNFTNL REQUIRED IMPORTED_TARGET libnftnl)
pkg_check_modules(LIBNFCT REQUIRED IMPORTED_TARGET libnetfilter_conntrack)
pkg_check_modules(SQLITE3 REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(LIBARCHIVE REQUIRED IMPORTED_TARGET libarchive)
pkg_check_modules(LIBSECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(YAMLCPP REQUIRED IMPORTED_TARGET yaml-cpp)
pkg_check_modules(LIBNGHTTP2 REQUIRED IMPORTED_TARGET libnghttp2)

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
set(SHOAL_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # pch_defines and time_macros let ccache keep translation units that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

# GNU ld takes three seconds for each of eighty programs, mold a fraction of one.
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

# Release keeps assertions: what only a bug can do must stop the program, not corrupt a host's network.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
# Sanitized code is made by clang: in half the time of g++, and a second compiler reads everything.
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g1")

add_library(shoal_options INTERFACE)

target_compile_definitions(shoal_options INTERFACE BOOST_ASIO_NO_DEPRECATED)
target_include_directories(shoal_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(shoal_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wunused -Wno-missing-field-initializers
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
  # g++ 12 is wrong about members of every std::expected that it inlines, and strings copied into one; what is included by
  # a unity is a header to it. No source of ours fills a GiB, and it need not collect garbage before: a tenth of its time.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overread> $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:--param=ggc-min-heapsize=1048576>
  # clang sees the value of a SHOAL_TRY go unused; that no Result is dropped is checked by g++. Its -Wshadow knows no
  # capture of a structured binding. libstdc++'s own use of what it calls deprecated is not ours to mend.
  $<$<CXX_COMPILER_ID:Clang>:-Wno-unused-result> $<$<CXX_COMPILER_ID:Clang>:-Wno-shadow>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>
  # Without the time of its making, a precompiled header is the same one each time, and ccache finds what used it.
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:SHELL:-Xclang -fno-pch-timestamp>
  -D_FILE_OFFSET_BITS=64)
if(SHOAL_SANITIZE)
  target_compile_options(shoal_options INTERFACE -fsanitize=${SHOAL_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(shoal_options INTERFACE -fsanitize=${SHOAL_SANITIZE})
else()
  target_compile_options(shoal_options INTERFACE -D_FORTIFY_SOURCE=2 -fstack-protector-strong)
endif()

# Two precompiled headers for all libraries: a plain one, and one for agent/ that also holds Asio, Beast, JSON and spdlog.
file(WRITE ${CMAKE_BINARY_DIR}/pch.cpp "// Holds a precompiled header.\n")
add_library(shoal_pch OBJECT ${CMAKE_BINARY_DIR}/pch.cpp)
target_link_libraries(shoal_pch PUBLIC shoal_options fmt::fmt)
target_precompile_headers(shoal_pch PRIVATE <string> <string_view> <vector> <map> <unordered_map> <memory>
  <optional> <variant> <functional> <expected> <algorithm> <chrono> <span> <filesystem> <fmt/format.h>)
# What of Asio and Beast is no template is compiled once, and not in every source that includes them.
file(WRITE ${CMAKE_BINARY_DIR}/asio.cpp "#include <boost/asio/impl/src.hpp>\n#include <boost/asio/ssl/impl/src.hpp>\n"
  "#include <boost/beast/src.hpp>\n")
add_library(shoal_asio STATIC ${CMAKE_BINARY_DIR}/asio.cpp)
target_link_libraries(shoal_asio PUBLIC shoal_options OpenSSL::SSL Threads::Threads)
target_compile_definitions(shoal_asio PUBLIC BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION)
file(WRITE ${CMAKE_BINARY_DIR}/agent_pch.cpp "// Holds a precompiled header.\n")
add_library(shoal_agent_options INTERFACE)
target_link_libraries(shoal_agent_options INTERFACE shoal_options shoal_asio fmt::fmt spdlog::spdlog Boost::json Boost::url
  OpenSSL::SSL Threads::Threads)
set(SHOAL_AGENT_HEADERS <string> <string_view> <vector> <map> <unordered_map> <memory> <optional> <variant> <functional>
  <expected> <algorithm> <chrono> <span> <filesystem> <fmt/format.h> <boost/asio.hpp> <boost/asio/ssl.hpp>
  <boost/beast/core.hpp> <boost/beast/http.hpp> <boost/json.hpp> <spdlog/spdlog.h>)
add_library(shoal_agent_pch OBJECT ${CMAKE_BINARY_DIR}/agent_pch.cpp)
target_link_libraries(shoal_agent_pch PUBLIC shoal_agent_options)
target_precompile_headers(shoal_agent_pch PRIVATE ${SHOAL_AGENT_HEADERS})

# shoal_together(TARGET): compiles the target's sources some thousand lines at a time, as nearly all of their time goes into
# what headers instantiate. In favour of the whole build; who edits and builds again is served better without.
option(SHOAL_UNITY "Compile many sources as one" ON)
set(SHOAL_UNITY_LINES 2500 CACHE STRING "Lines that are compiled as one; more of them leave fewer to do at a time")
function(shoal_together target)
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "\\.cpp$")
  list(LENGTH sources count)
  if(NOT SHOAL_UNITY OR count LESS 2)
    return()
  endif()
  execute_process(COMMAND python3 ${CMAKE_SOURCE_DIR}/scripts/tidylib/together.py ${SHOAL_UNITY_LINES} ${sources}
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE groups OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" groups "${groups}")
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  foreach(source group IN ZIP_LISTS sources groups)
    set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${group})
  endforeach()
endfunction()

# shoal_library(NAME SOURCES a.cpp ... [DEPS x y] [LIBS PkgConfig::Z])
# DEPS are Shoal's own targets, LIBS are third-party ones (kept private to the target).
function(shoal_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PUBLIC shoal_options fmt::fmt ${A_DEPS} PRIVATE ${A_LIBS})
  target_precompile_headers(${name} REUSE_FROM shoal_pch)
  shoal_together(${name})
endfunction()

# shoal_agent_library: the same for folders under agent/, which may use Boost and spdlog in their headers.
function(shoal_agent_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PUBLIC shoal_agent_options ${A_DEPS} PRIVATE ${A_LIBS})
  target_precompile_headers(${name} REUSE_FROM shoal_agent_pch)
  shoal_together(${name})
endfunction()

# What users run, and what the tests are.
add_custom_target(shoal_programs)
add_custom_target(shoal_tests)

# shoal_test(NAME SOURCES a_test.cpp ... [DEPS ...] [LIBS ...] [LABELS unit|lab|bpf|...])
# A GoogleTest binary and its CTest entry. Label `unit` (the default) needs no root; `root` runs in mount, net
# and pid namespaces of its own; `lab` drives scripts/lab.
function(shoal_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  if(NOT A_LABELS)
    set(A_LABELS unit)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE shoal_options ${A_DEPS} ${A_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE SHOAL_SOURCE_DIR="${CMAKE_SOURCE_DIR}" SHOAL_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(CMAKE_CURRENT_SOURCE_DIR MATCHES "/tests/unit/agent/")
    target_link_libraries(${name} PRIVATE shoal_agent_options)
    target_precompile_headers(${name} REUSE_FROM shoal_agent_test_pch)
  else()
    target_precompile_headers(${name} REUSE_FROM shoal_test_pch)
  endif()
  shoal_together(${name})
  add_dependencies(shoal_tests ${name})
  if("root" IN_LIST A_LABELS)
    # No route out, nothing left behind: the test's first process takes its namespaces with it.
    add_test(NAME ${name} COMMAND unshare --mount --net --pid --fork --kill-child --mount-proc $<TARGET_FILE:${name}>)
  else()
    add_test(NAME ${name} COMMAND ${name})
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
endfunction()

# Adds every direct subfolder that has a CMakeLists.txt: for folders that mirror the tree and hold nothing else.
function(shoal_add_subfolders)
  file(GLOB lists CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*/CMakeLists.txt)
  foreach(list ${lists})
    get_filename_component(folder ${list} DIRECTORY)
    add_subdirectory(${folder})
  endforeach()
endfunction()
