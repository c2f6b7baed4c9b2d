# compare_runs and draw_runs on two runs with the shipped model:
# cmake -DCOMPARE=<compare_runs> -DDRAW=<draw_runs> -DMODEL=<wardrobe.safetensors> -DFOLDER=<scratch> -P runs_test.cmake
file(REMOVE_RECURSE ${FOLDER})
foreach(seed IN ITEMS 1 2)
  file(MAKE_DIRECTORY ${FOLDER}/dense-${seed})
  file(COPY_FILE ${MODEL} ${FOLDER}/dense-${seed}/model.safetensors)
  file(WRITE ${FOLDER}/dense-${seed}/summary.json
       "{\"tests\": [{\"title\": \"class\", \"n\": 40, \"top1\": 0.${seed}5}], \"seconds\": 120}")
endforeach()

include(${CMAKE_CURRENT_LIST_DIR}/expect.cmake)
set(limit TIMEOUT 60)

set(group "dense=dense-1,dense-2")
expect(0 "class .n = 40. \\| minutes \\|.*\\| dense \\| 20\\.0 .15\\.0, 25\\.0. \\| 2\\.0 " ${COMPARE} ${group})
expect(0 "^$" ${DRAW} runs.svg ${group} one=dense-1)
file(READ ${FOLDER}/runs.svg svg)
foreach(said IN ITEMS "1  dense: 5.51 MB, 20.0 %</text>" "2  one: 5.51 MB, 15.0 %</text>"
                      "one model.trunks.0.blocks.3: 0.0 %</title>" "</svg>")
  string(FIND "${svg}" "${said}" at)
  if(at EQUAL -1)
    message(SEND_ERROR "runs.svg has no «${said}»")
  endif()
endforeach()
expect(2 "usage: draw_runs FILE.svg NAME=RUN" ${DRAW} ${group})
expect(1 "nowhere/summary.json" ${DRAW} other.svg x=nowhere)
expect(1 "nowhere/summary.json" ${COMPARE} x=nowhere)
if(EXISTS ${FOLDER}/other.svg)
  message(SEND_ERROR "a picture was written of runs that are not there")
endif()
