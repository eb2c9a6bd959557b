# The text blocks: text_runner.c plays parallel/'s part for both.
foreach(test text shards)
  fz_test(model/test_blocks_${test} LIBS fz_model)
  target_sources(model_test_blocks_${test} PRIVATE ${CMAKE_SOURCE_DIR}/tests/model/text_runner.c)
  target_link_libraries(model_test_blocks_${test} PRIVATE Threads::Threads)
endforeach()
