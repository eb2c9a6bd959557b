fz_test(checkpoint/test_layout LIBS fz_checkpoint)
fz_test(checkpoint/test_round_trip LIBS fz_checkpoint RANKS 1 2 4)
fz_test(checkpoint/test_damage LIBS fz_checkpoint RANKS 1 2)
fz_test(checkpoint/test_kill LIBS fz_checkpoint)
fz_test(checkpoint/test_interop LIBS fz_checkpoint)
fz_test(checkpoint/test_sync LIBS fz_checkpoint)
fz_test(checkpoint/test_rounding LIBS fz_checkpoint)
fz_test(checkpoint/test_safetensors LIBS fz_checkpoint)
fz_test(checkpoint/test_safetensors_write LIBS fz_checkpoint)
fz_test(checkpoint/test_stream LIBS fz_checkpoint RANKS 1 SLOW_RANKS 4)

# The program's half of tests/reference/check_safetensors.py.
add_executable(checkpoint_safetensors_peer ${CMAKE_CURRENT_LIST_DIR}/safetensors_peer.c)
target_link_libraries(checkpoint_safetensors_peer PRIVATE fz_checkpoint)
