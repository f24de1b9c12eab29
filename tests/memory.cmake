strata_test(NAME memory_arena_test SOURCES unit/memory_arena_test.cpp LIBS strata_memory)
strata_test(NAME memory_extent_allocator_test
            SOURCES unit/memory_extent_allocator_test.cpp property/memory_extent_allocator_property_test.cpp
            LIBS strata_memory)
