# What train_ask and ask promise: cmake -DTRAIN=<train_ask> -DASK=<ask> -DPICTURE=<a picture> -DFOLDER=<scratch>
#   -P train_ask_test.cmake
# A run that was killed, stopped and resumed with another number of threads ends in the same bytes as one that was not,
# and ask answers with what it made.
cmake_minimum_required(VERSION 3.25)
set(settings --batch 14 --width 16 --hidden 16 --heads 2 --layers 1 --vision-layers 1 --patch 16 --steps 6 --warmup 1
             --seed 3)
unset(ENV{COLUMNS})
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})

include(${CMAKE_CURRENT_LIST_DIR}/expect.cmake)

expect(0 "6 steps, 84 pairs.*question . chance.*yes/no . 50.0 .*all . " ${TRAIN} ${settings} --out whole --threads 1
       --evaluation 3 --log-every 1)
file(READ ${FOLDER}/whole/summary.json summary)
string(JSON count LENGTH "${summary}" questions)
string(JSON asked GET "${summary}" questions 6 n)
if(NOT count EQUAL 7 OR NOT asked EQUAL 3)
  message(SEND_ERROR "summary.json has ${count} kinds, ${asked} questions of the last, expected 7 and 3:\n${summary}")
endif()
file(STRINGS ${FOLDER}/whole/metrics.csv rows)
list(LENGTH rows count)
list(GET rows 0 columns)
if(NOT count EQUAL 7 OR NOT columns MATCHES "^step,loss,answer_accuracy,word_accuracy,")
  message(SEND_ERROR "metrics.csv has ${count} lines, of ${columns}")
endif()
expect(1 "whole holds a run already.*--resume whole" ${TRAIN} ${settings} --out whole)
expect(2 "--lr is 100, expected a number" ${TRAIN} --lr 100 --out refused)
expect(1 "patch" ${TRAIN} --patch 7 --out refused)

expect(130 "interrupted after step 2" ${TRAIN} ${settings} --out parts --threads 2 --stop-after 2 --evaluation 0)
set(limit TIMEOUT 60)
expect(130 "interrupted after step 4" ${TRAIN} --resume parts --threads 1 --stop-after 4 --evaluation 0)
execute_process(COMMAND timeout --foreground -s KILL 0.2 ${TRAIN} --resume parts --save-every 1 --evaluation 0
                WORKING_DIRECTORY ${FOLDER} OUTPUT_QUIET ERROR_QUIET)
expect(0 "6 steps" ${TRAIN} --resume parts --threads 2 --evaluation 0)
foreach(file IN ITEMS model run)
  file(SHA256 ${FOLDER}/whole/${file}.safetensors whole)
  file(SHA256 ${FOLDER}/parts/${file}.safetensors parts)
  if(NOT whole STREQUAL parts)
    message(SEND_ERROR "${file}.safetensors differs where the run was interrupted")
  endif()
endforeach()

expect(0 "^ *[0-9.]+ %  [a-z]+.*\n *[0-9.]+ %  [^\n]+\n$" ${ASK} ${PICTURE} "What colour is the bag?" --model whole
       --top 2)
expect(0 "answers" ${ASK} ${PICTURE} "is there a t-shirt" --model whole/model.safetensors --json --top 40)
string(JSON count LENGTH "${output}" answers)
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON probability GET "${output}" answers ${i} probability)
  if(NOT probability GREATER 0 OR probability GREATER 1 OR (i GREATER 0 AND probability GREATER before))
    message(SEND_ERROR "probability ${i} is ${probability}, behind ${before}")
  endif()
  set(before ${probability})
endforeach()
if(NOT count EQUAL 35)  # 18 classes, 10 colours, 3 patterns, 2 numbers, yes and no
  message(SEND_ERROR "${count} answers, expected 35")
endif()
expect(2 "does not know the word «spaceship»; it knows .*bag" ${ASK} ${PICTURE} "is there a spaceship" --model whole)
expect(2 "the question has no words" ${ASK} ${PICTURE} "?" --model whole)
expect(1 "there is no model nowhere.*train_ask" ${ASK} ${PICTURE} "what is this" --model nowhere)
expect(1 "missing.png" ${ASK} missing.png "what is this" --model whole)
file(WRITE ${FOLDER}/text.png "no picture")
expect(1 "text.png" ${ASK} text.png "what is this" --model whole)
file(WRITE ${FOLDER}/model.safetensors "no model")
expect(1 "model.safetensors" ${ASK} ${PICTURE} "what is this" --model model.safetensors)
