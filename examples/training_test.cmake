# A training run is a pure function of its settings: cmake -DTRAIN=<train_limoe> -DFOLDER=<scratch> -P training_test.cmake
# One and two threads give the same checkpoint, byte for byte; so does a run that was interrupted and resumed.
# Settings that contradict each other are refused before there is a folder.
set(settings --steps 6 --batch 16 --width 32 --hidden 64 --heads 4 --layers 2 --experts 4 --patch 8 --embedding 16
    --warmup 2 --no-evaluation --save-every 100)
file(REMOVE_RECURSE ${FOLDER})

function(train)
  execute_process(COMMAND ${TRAIN} ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(status ${status} PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

train(${settings} --threads 1 --out ${FOLDER}/one)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "training failed: ${status}\n${output}")
endif()
train(${settings} --threads 2 --out ${FOLDER}/two)
train(${settings} --threads 2 --out ${FOLDER}/resumed --stop-after 3)
if(NOT status EQUAL 130)
  message(FATAL_ERROR "the interrupted run ended with ${status}, expected 130\n${output}")
endif()
file(SHA256 ${FOLDER}/resumed/run.safetensors early)
train(--resume ${FOLDER}/resumed --threads 1 --no-evaluation)
file(SHA256 ${FOLDER}/one/run.safetensors wanted)
foreach(run IN ITEMS two resumed)
  file(SHA256 ${FOLDER}/${run}/run.safetensors got)
  if(NOT got STREQUAL wanted)
    message(SEND_ERROR "the checkpoint of the run «${run}» differs from that of one thread")
  endif()
endforeach()
train(--evaluate ${FOLDER}/one/model.safetensors)  # which replays the self-check first
if(NOT status EQUAL 0)
  message(SEND_ERROR "the trained model is not accepted: ${status}\n${output}")
endif()
if(early STREQUAL wanted)
  message(SEND_ERROR "three steps and six gave the same checkpoint")
endif()
train(${settings} --experts 2 --out ${FOLDER}/few)
if(status EQUAL 0 OR NOT output MATCHES "--min-image-experts is 4, expected 1 to --experts, 2" OR EXISTS ${FOLDER}/few)
  message(SEND_ERROR "two experts, of which images shall use four: ${status}, expected a refusal that names the option "
                     "and makes no folder\n${output}")
endif()
