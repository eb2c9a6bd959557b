# Each part of model/ lists its own tests.
foreach(part ops vision blocks program)
  include(${CMAKE_CURRENT_LIST_DIR}/tests_${part}.cmake OPTIONAL)
endforeach()
