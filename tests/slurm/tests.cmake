# On a real Slurm that the test starts by itself; skipped where Slurm is not installed.
if(TARGET florenz)
  add_test(NAME slurm/test_requeue
           COMMAND ${CMAKE_CURRENT_LIST_DIR}/test_requeue.sh $<TARGET_FILE:florenz>)
  set_tests_properties(slurm/test_requeue PROPERTIES TIMEOUT 600 SKIP_RETURN_CODE 77 RUN_SERIAL TRUE
                       LABELS "slow;system" ENVIRONMENT "${FZ_TEST_ENV}")
endif()
