# Needs tests/reference/.env, else skipped. ctest -L reference
# fz_reference_test(name program.py [argument]...): a program of this folder that ends with 0 where all is well.
function(fz_reference_test name)
  add_test(NAME reference/${name} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/run ${ARGN})
  set_tests_properties(reference/${name} PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77
                       LABELS "reference;slow" ENVIRONMENT "${FZ_TEST_ENV};PYTHONDONTWRITEBYTECODE=1")
endfunction()

fz_reference_test(library check_library.py)
if(TARGET parallel_test_parity)
  fz_reference_test(parity check_parity.py --out ${CMAKE_BINARY_DIR}/reference
                    --program $<TARGET_FILE:parallel_test_parity> --mpiexec ${MPIEXEC_EXECUTABLE})
  set_tests_properties(reference/parity PROPERTIES PROCESSORS 2)
else()
  fz_reference_test(parity check_parity.py --out ${CMAKE_BINARY_DIR}/reference)
endif()
fz_reference_test(safetensors check_safetensors.py --program $<TARGET_FILE:checkpoint_safetensors_peer>)
fz_reference_test(tokenizers make_tokenizers.py --check)
fz_reference_test(search make_search.py --check)
fz_reference_test(generate make_generate.py --check)
fz_reference_test(images make_images.py ${CMAKE_CURRENT_SOURCE_DIR}/data/golden/images --check)
if(TARGET florenz)
  fz_reference_test(published check_published.py --program $<TARGET_FILE:florenz>)
  fz_reference_test(exchange check_exchange.py --program $<TARGET_FILE:florenz>)
endif()
