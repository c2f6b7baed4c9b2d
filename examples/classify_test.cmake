# What classify promises: cmake -DCLASSIFY=<classify> -DFOLDER=<scratch> -P classify_test.cmake
# On forty pictures: any number of threads and a run that was stopped and goes on write the same files, byte for byte,
# and what cannot go on is refused in words.
cmake_minimum_required(VERSION 3.25)
unset(ENV{COLUMNS})  # messages in lines of their own, whatever the shell says
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER}/data)
# Magic number, count, and for pictures their edges (8 x 8); pixels and labels are letters and digits less 48.
execute_process(WORKING_DIRECTORY ${FOLDER}/data COMMAND_ERROR_IS_FATAL ANY COMMAND sh -c [[
for split in train:40:050 t10k:30:036; do
  name=${split%%:*} rest=${split#*:}
  { printf '\000\000\010\003\000\000\000\'${rest#*:}'\000\000\000\010\000\000\000\010'
    yes 'abcd~~~~~~~~fghi#' | tr -d '\n' | head -c $((${rest%:*} * 64)); } > $name-images-idx3-ubyte
  { printf '\000\000\010\001\000\000\000\'${rest#*:}
    yes 0123456789 | tr -d '\n' | head -c ${rest%:*} | tr 0-9 '\000-\011'; } > $name-labels-idx1-ubyte
done
gzip -n t10k-labels-idx1-ubyte
]])

# expect(STATUS PATTERN ARGUMENT...): the exit status, and a regular expression on all that is printed.
function(expect wanted pattern)
  execute_process(COMMAND ${CLASSIFY} --batch 8 --data ${data} ${ARGN} WORKING_DIRECTORY ${FOLDER} RESULT_VARIABLE status
                  OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL wanted OR NOT output MATCHES "${pattern}")
    message(SEND_ERROR "${ARGN}\nended with ${status}, expected ${wanted} and a match of «${pattern}»:\n${output}")
  endif()
endfunction()
function(expect_same a b)
  foreach(name IN ITEMS run.safetensors model.safetensors metrics.csv)
    file(SHA256 ${FOLDER}/${a}/${name} sum_a)
    file(SHA256 ${FOLDER}/${b}/${name} sum_b)
    if(NOT sum_a STREQUAL sum_b)
      message(SEND_ERROR "${name} of ${a} and of ${b} differ")
    endif()
  endforeach()
endfunction()

set(data data)
set(table "ankle boot \\| 3 \\| .*% of 30 are right")
expect(0 "${table}.*with seats for 25 % of the patches:" --steps 45 --threads 1 --out whole)
expect(130 "stopped after step 23; the same command with --resume" --steps 45 --threads 2 --out parts --stop-after 23)
if(EXISTS ${FOLDER}/parts/model.safetensors)
  message(SEND_ERROR "a run that was stopped left a model")
endif()
expect(0 "${table}" --steps 45 --threads 2 --out parts --resume)
expect_same(whole parts)
expect(0 "${table}" --steps 45 --out parts --resume)  # at its end already
expect_same(whole parts)

expect(2 "whole holds a run: --resume goes on with it" --steps 45 --out whole)
expect(2 "was begun with .*steps 45 batch 8 seed 1" --steps 46 --out whole --resume)
expect(2 "was begun with " --steps 45 --dense --out whole --resume)
expect(1 "nowhere/run.safetensors" --out nowhere --resume)
expect(2 "--steps" --steps 0)
expect(0 "^[^w]*${table}\n$" --steps 1 --dense --seed 7 --out dense)  # without a word of seats
file(REMOVE ${FOLDER}/data/train-labels-idx1-ubyte)
expect(1 "train-labels-idx1-ubyte.gz: cannot be opened" --out other)
set(data elsewhere)
expect(2 "there is no elsewhere; sudo apt-get install dataset-fashion-mnist")
