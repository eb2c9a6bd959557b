foreach(name config config_yaml continue exit_codes gallery layouts metrics options recipes run_dir search timed_ops environment import_plan)
  fz_test(launch/test_${name} LIBS fz_launch)
endforeach()
fz_test(launch/test_share LIBS fz_launch RANKS 1 3)
