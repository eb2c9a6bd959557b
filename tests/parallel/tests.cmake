fz_test(parallel/test_schedule LIBS fz_parallel)
fz_test(parallel/test_lanes LIBS fz_parallel)
fz_test(parallel/test_plan LIBS fz_parallel)
fz_test(parallel/test_optimizer LIBS fz_parallel)
fz_test(parallel/test_step LIBS fz_parallel)
fz_test(parallel/test_trainer LIBS fz_parallel RANKS 1 2 SLOW_RANKS 3 4)
fz_test(parallel/test_generator LIBS fz_parallel RANKS 1 2 SLOW_RANKS 4 8)
fz_test(parallel/test_layouts LIBS fz_parallel RANKS 8 TIMEOUT 400 LABELS slow)

# The reference's numbers. With paths of parity cases as arguments the program takes those.
fz_test(parallel/test_parity LIBS fz_launch RANKS 1 SLOW_RANKS 4 TIMEOUT 120)
target_sources(parallel_test_parity PRIVATE ${CMAKE_SOURCE_DIR}/tests/parallel/parity_watch.c
               ${CMAKE_SOURCE_DIR}/tests/support/parity.c)

# Checkpoints across layouts.
fz_test(parallel/test_ckpt_matrix LIBS fz_parallel fz_checkpoint RANKS 8 TIMEOUT 300 LABELS slow)
fz_test(parallel/test_ckpt_continue LIBS fz_parallel fz_checkpoint RANKS 8 TIMEOUT 300 LABELS slow)
fz_test(parallel/test_ckpt_scale LIBS fz_parallel fz_checkpoint LABELS slow)

# What tests/nightly/checkpoint_speed.sh runs.
add_executable(checkpoint_speed ${CMAKE_SOURCE_DIR}/tests/nightly/checkpoint_speed.c)
target_link_libraries(checkpoint_speed PRIVATE fz_parallel fz_checkpoint)
