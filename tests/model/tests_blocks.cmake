# The text blocks: text_runner.c plays parallel/'s part, text_reference.c is the model once more.
foreach(test text shards numbers)
  fz_test(model/test_blocks_${test} LIBS fz_model)
  target_sources(model_test_blocks_${test} PRIVATE ${CMAKE_SOURCE_DIR}/tests/model/text_runner.c
                 ${CMAKE_SOURCE_DIR}/tests/model/text_reference.c)
  target_link_libraries(model_test_blocks_${test} PRIVATE Threads::Threads)
endforeach()
