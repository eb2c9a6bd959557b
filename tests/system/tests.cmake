# The program itself, under mpirun: scripts that get its path.
if(TARGET florenz)
  foreach(name bad_input kill_continue bad_sample data_tools recipes generate score ckpt_tools
          ckpt_bench optimizer_drop)
    add_test(NAME system/${name} COMMAND ${CMAKE_CURRENT_LIST_DIR}/${name}.sh $<TARGET_FILE:florenz>)
    set_tests_properties(system/${name} PROPERTIES TIMEOUT 240 PROCESSORS 2 LABELS "system"
                         ENVIRONMENT "${FZ_TEST_ENV}")
  endforeach()
endif()
if(TARGET florenz)
  add_executable(exchange_tool ${CMAKE_CURRENT_LIST_DIR}/exchange_tool.c)
  target_link_libraries(exchange_tool PRIVATE fz_launch)
  add_test(NAME system/ckpt_exchange COMMAND ${CMAKE_CURRENT_LIST_DIR}/ckpt_exchange.sh
           $<TARGET_FILE:florenz> $<TARGET_FILE:exchange_tool>)
  set_tests_properties(system/ckpt_exchange PROPERTIES TIMEOUT 240 PROCESSORS 2 LABELS "system"
                       ENVIRONMENT "${FZ_TEST_ENV}")
endif()
