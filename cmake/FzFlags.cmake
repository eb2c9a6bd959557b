# Flags of every target. Never -ffast-math; contraction off, so that a vector loop and its tail are
# the same formula (design 5: element-wise code gives the same bits wherever a loop is cut).
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O3")
set(CMAKE_CXX_FLAGS_RELEASE "-O2")

set(FZ_MARCH "native" CACHE STRING "processor to build for (-march); empty: the compiler's default")
set(FZ_SANITIZE "" CACHE STRING "address,undefined or thread")

add_library(fz_flags INTERFACE)
target_compile_definitions(fz_flags INTERFACE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE)
target_include_directories(fz_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(fz_flags INTERFACE -ffp-contract=off -fno-math-errno -fno-trapping-math -g)
target_compile_options(fz_flags INTERFACE $<$<COMPILE_LANGUAGE:C>:
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Wundef -Wcast-qual -Wwrite-strings -Wformat=2 -Wdouble-promotion>)
target_compile_options(fz_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
if(FZ_MARCH)
  include(CheckCCompilerFlag)
  check_c_compiler_flag(-march=${FZ_MARCH} FZ_HAS_MARCH)
  if(FZ_HAS_MARCH)
    target_compile_options(fz_flags INTERFACE -march=${FZ_MARCH})
  endif()
endif()
if(FZ_SANITIZE)
  target_compile_options(fz_flags INTERFACE -fsanitize=${FZ_SANITIZE} -fno-omit-frame-pointer
                                            -fno-sanitize-recover=all)
  target_link_options(fz_flags INTERFACE -fsanitize=${FZ_SANITIZE})
endif()
