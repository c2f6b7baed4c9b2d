# What train_clip promises: cmake -DTRAIN=<train_clip> -DZERO_SHOT=<zero_shot or empty> -DPICTURE=<a picture>
#   -DFOLDER=<scratch> -P train_clip_test.cmake
# All stages, killed at some moment, stopped at another and resumed with another number of threads, end in the same
# bytes as when nothing happened, and zero_shot reads what they made.
cmake_minimum_required(VERSION 3.25)
set(settings --batch 16 --width 32 --heads 2 --vision-layers 1 --text-layers 1 --embedding 16 --patch 16 --steps 4
             --warmup 1 --pairs 100 --image-clusters 2 --text-clusters 1 --stages 2)
unset(ENV{COLUMNS})
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})

include(${CMAKE_CURRENT_LIST_DIR}/expect.cmake)

expect(0 "whole/clip-moe is a CLIP-MoE" ${TRAIN} ${settings} --out whole --threads 1 --evaluation 0)
expect(1 "whole holds a run already.*--resume whole" ${TRAIN} ${settings} --out whole)
expect(2 "--stage mcl needs --model" ${TRAIN} --stage mcl --out refused)
expect(2 "--lr is 100, expected a number" ${TRAIN} --lr 100 --out refused)

# Each stage is stopped once; between, the program is killed.
set(mode ${settings} --out parts)
set(stops 0)
foreach(attempt RANGE 40)
  set(killer "")
  if(attempt EQUAL 1 OR attempt EQUAL 3)
    set(killer timeout --foreground -s KILL 0.1)
  endif()
  execute_process(COMMAND ${killer} ${TRAIN} ${mode} --threads 2 --save-every 1 --stop-after 2 --evaluation 0
                  WORKING_DIRECTORY ${FOLDER} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(mode --resume parts)
  if(status EQUAL 130)
    math(EXPR stops "${stops} + 1")
  elseif(status EQUAL 0)
    break()
  elseif(NOT killer)
    message(FATAL_ERROR "ended with ${status}:\n${output}")
  endif()
endforeach()
if(stops LESS 3)
  message(SEND_ERROR "was stopped ${stops} times, expected 3 or more")
endif()
foreach(file IN ITEMS base/model base/run mcl-1/model mcl-1/labels mcl-2/model mcl-2/labels upcycled/model
                      clip-moe/model)  # run.safetensors of later stages names the folder of the model it began with
  file(SHA256 ${FOLDER}/whole/${file}.safetensors whole)
  file(SHA256 ${FOLDER}/parts/${file}.safetensors parts)
  if(NOT whole STREQUAL parts)
    message(SEND_ERROR "${file}.safetensors differs where the run was interrupted")
  endif()
endforeach()

# Texts alone learn, of more words than the base reads: 84 positions of 24.
expect(1 "«stretch» is 4, which goes with stage tune" ${TRAIN} --stage base --stretch 4 --out refused)
expect(0 "stage tune" ${TRAIN} --stage tune --model whole/base --train text --stretch 4 --batch 16 --steps 2 --warmup 1
       --pairs 100 --evaluation 0 --out long)
file(READ ${FOLDER}/long/config.json config)
string(JSON positions GET "${config}" text_config max_position_embeddings)
if(NOT positions EQUAL 84)
  message(SEND_ERROR "long/config.json tells of ${positions} positions, expected 84")
endif()

# Captions of one's own: faults are named, or left out.
file(WRITE ${FOLDER}/captions.tsv "missing.png\tnothing\nno tab\n")
expect(1 "2 lines or files are of no use.*captions.tsv:1: .*missing.png is not there" ${TRAIN} --stage base
       --data captions.tsv --skip-bad true --out own)

if(ZERO_SHOT)
  file(WRITE ${FOLDER}/labels.txt "red dress\nblue bag\n")
  foreach(model IN ITEMS whole/base whole/clip-moe long)
    expect(0 "red dress" ${ZERO_SHOT} ${PICTURE} --model ${model} --labels-file labels.txt)
  endforeach()
endif()
