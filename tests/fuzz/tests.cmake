# libFuzzer targets, built by clang beside the compiler of everything else. ctest -L fuzz
# What is found in a longer run and worth keeping goes to tests/fuzz/corpus:
#   tests/fuzz-programs/fuzz_safetensors -max_total_time=600 FOLDER tests/fuzz/corpus/safetensors
#   tests/fuzz-programs/fuzz_safetensors -merge=1 tests/fuzz/corpus/safetensors FOLDER
find_program(FZ_FUZZ_CC NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14
             DOC "a clang with libFuzzer")
set(fuzz_flags -std=c11 -O1 -g -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE
    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I${CMAKE_SOURCE_DIR})
set(fuzz_folder ${CMAKE_CURRENT_BINARY_DIR}/fuzz-programs)
set(fuzz_works FALSE)
if(FZ_FUZZ_CC AND NOT FZ_SANITIZE)
  file(MAKE_DIRECTORY ${fuzz_folder})
  file(WRITE ${fuzz_folder}/try.c
       "int LLVMFuzzerTestOneInput(const char *x, unsigned long n);\n"
       "int LLVMFuzzerTestOneInput(const char *x, unsigned long n) { return x && n > 9 ? 0 : 0; }\n")
  execute_process(COMMAND ${FZ_FUZZ_CC} ${fuzz_flags} ${fuzz_folder}/try.c -o ${fuzz_folder}/try
                  RESULT_VARIABLE fuzz_failed OUTPUT_QUIET ERROR_QUIET)
  if(fuzz_failed EQUAL 0)
    set(fuzz_works TRUE)
  endif()
endif()

# fz_fuzz(name SECONDS n SOURCES file... LIBS flag...)
function(fz_fuzz name)
  cmake_parse_arguments(ARG "" "SECONDS" "SOURCES;LIBS" ${ARGN})
  set(program ${fuzz_folder}/fuzz_${name})
  set(sources ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_${name}.c)
  foreach(source ${ARG_SOURCES})
    list(APPEND sources ${CMAKE_SOURCE_DIR}/${source})
  endforeach()
  if(fuzz_works)
    add_custom_command(OUTPUT ${program} DEPENDS ${sources}
                       COMMAND ${FZ_FUZZ_CC} ${fuzz_flags} ${sources} -o ${program} ${ARG_LIBS} -lpthread -lm)
    add_custom_target(fuzz_${name} ALL DEPENDS ${program})
  endif()
  add_test(NAME fuzz/${name}
           COMMAND ${CMAKE_SOURCE_DIR}/tests/fuzz/run ${program} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name}
                   -dict=${CMAKE_SOURCE_DIR}/tests/fuzz/${name}.dict -max_total_time=${ARG_SECONDS}
                   -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1)
  math(EXPR limit "${ARG_SECONDS} + 60")
  set_tests_properties(fuzz/${name} PROPERTIES TIMEOUT ${limit} SKIP_RETURN_CODE 77 LABELS fuzz)
endfunction()

fz_fuzz(safetensors SECONDS 30
        SOURCES checkpoint/safetensors_parse.c core/memory.c core/status.c core/fault.c core/assert.c
        LIBS ${JANSSON_LDFLAGS})
fz_fuzz(manifest SECONDS 10
        SOURCES checkpoint/manifest.c checkpoint/disk.c core/checksum.c core/rng.c core/log.c core/clock.c
                core/memory.c core/status.c core/fault.c core/assert.c)
fz_fuzz(index SECONDS 10
        SOURCES checkpoint/index_file.c checkpoint/h5.c checkpoint/layout.c checkpoint/source.c checkpoint/coverage.c
                checkpoint/compare.c checkpoint/find.c checkpoint/directory.c checkpoint/shard_file.c checkpoint/block_writer.c
                checkpoint/direct.c checkpoint/crc_combine.c checkpoint/manifest.c checkpoint/disk.c core/checksum.c core/rng.c
                core/log.c core/clock.c core/memory.c core/status.c core/fault.c core/assert.c
        LIBS ${HDF5_CFLAGS} ${HDF5_LDFLAGS})
