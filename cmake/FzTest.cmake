# fz_test(dist/test_agree LIBS fz_dist RANKS 1 2 4 [LABELS slow] [TIMEOUT 60])
# One executable; one CTest entry per rank count (without RANKS: one, started alone). SLOW_RANKS are
# rank counts that the sanitizer builds leave out (label slow).
set(FZ_TEST_ENV
    "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMPI_MCA_rmaps_base_oversubscribe=1"
    "OMPI_MCA_mpi_yield_when_idle=1;OMPI_MCA_btl_vader_single_copy_mechanism=none"
    "OPENBLAS_NUM_THREADS=1;OMPI_MCA_pml=ob1"
    "ASAN_OPTIONS=fast_unwind_on_malloc=0;LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/lsan.txt"
    "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.txt")
function(fz_test path)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LIBS;RANKS;SLOW_RANKS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  if(FZ_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 5")
  endif()
  string(REPLACE "/" "_" target ${path})
  add_executable(${target} ${CMAKE_SOURCE_DIR}/tests/${path}.c)
  target_link_libraries(${target} PRIVATE ${ARG_LIBS} PkgConfig::CMOCKA)
  target_compile_definitions(${target} PRIVATE FZ_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                             FZ_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(NOT ARG_RANKS AND NOT ARG_SLOW_RANKS)
    add_test(NAME ${path} COMMAND ${target})
    set(names ${path})
  endif()
  foreach(ranks ${ARG_RANKS} ${ARG_SLOW_RANKS})
    add_test(NAME ${path}.${ranks} COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} $<TARGET_FILE:${target}>)
    set_property(TEST ${path}.${ranks} PROPERTY PROCESSORS ${ranks})
    list(APPEND names ${path}.${ranks})
  endforeach()
  set_tests_properties(${names} PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77
                       LABELS "${ARG_LABELS}" ENVIRONMENT "${FZ_TEST_ENV}")
  foreach(ranks ${ARG_RANKS} ${ARG_SLOW_RANKS})
    set_property(TEST ${path}.${ranks} APPEND PROPERTY LABELS mpi)
  endforeach()
  foreach(ranks ${ARG_SLOW_RANKS})
    set_property(TEST ${path}.${ranks} APPEND PROPERTY LABELS slow)
  endforeach()
endfunction()
