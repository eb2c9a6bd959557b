# Of data/: shards, index, sampler, images, loader, check, build. Synth and tokenizer: tests_synth.
include(${CMAKE_CURRENT_LIST_DIR}/tests_synth.cmake OPTIONAL)
foreach(name prefetch index sampler image image_reference resize loader loader_bad check csv_build csv_tokenizers)
  if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/test_${name}.c)
    fz_test(data/test_${name} LIBS fz_data)
  endif()
endforeach()
