# zero_shot and search on a tiny CLIP:
# cmake -DMAKE=<make_tiny_clip> -DZERO_SHOT=<zero_shot> -DSEARCH=<search> -DFOLDER=<scratch> -P clip_test.cmake
file(REMOVE_RECURSE ${FOLDER})
execute_process(COMMAND ${MAKE} ${FOLDER} COMMAND_ERROR_IS_FATAL ANY)

# expect(STATUS PATTERN PROGRAM ARGUMENT...): the exit status, and a regular expression on all that is printed.
function(expect wanted pattern)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${FOLDER} RESULT_VARIABLE status OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT status EQUAL wanted OR NOT output MATCHES "${pattern}")
    message(SEND_ERROR "${ARGN}\nended with ${status}, expected ${wanted} and a match of «${pattern}»:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# Texts have 10 tokens here, nearly one for each letter: the labels stand alone, or they would all be cut alike.
set(labels --labels cat dog --threads 2 --template {})
expect(0 "photos/green.png.*photos/red.png.*3 photographs, 2 labels, 1 template" ${ZERO_SHOT} photos/green.png
       photos/red.png photos/deep ${labels} --model clip)
foreach(format IN ITEMS fp32 bf16 int8 int4)
  expect(0 "\"format\": \"${format}\"" ${ZERO_SHOT} photos ${labels} --model clip --format ${format} --json)
endforeach()
expect(0 "3 photographs, 2 labels, 81 templates" ${ZERO_SHOT} photos ${labels} --model openai/tiny.safetensors
       --templates imagenet)
expect(0 "effective experts.*block  1.*block  2" ${ZERO_SHOT} photos ${labels} --model clip --upcycle 4)
expect(1 "broken.png.*cannot be read.*deep/blue.png.*broken.png: is neither PNG nor JPEG" ${ZERO_SHOT} with_broken ${labels}
       --model clip)
expect(1 "no photographs in empty" ${ZERO_SHOT} empty ${labels} --model clip)
expect(1 "no pictures: zero_shot" ${ZERO_SHOT} --model clip)
expect(1 "no labels" ${ZERO_SHOT} photos --model clip)
expect(1 "has no place for the label" ${ZERO_SHOT} photos ${labels} --model clip --template "a photo")
expect(1 "--report is for models of train_limoe" ${ZERO_SHOT} photos ${labels} --model clip --report r.html)
expect(1 "no model at nowhere.*hf download" ${ZERO_SHOT} photos ${labels} --model nowhere)

# What labels are is kept, and the answers stay the same to the last digit.
expect(0 "pictures" ${ZERO_SHOT} photos ${labels} --model clip --json --cache labels.safetensors)
set(first "${output}")
file(SHA256 ${FOLDER}/labels.safetensors before)
expect(0 "pictures" ${ZERO_SHOT} photos ${labels} --model clip --json --cache labels.safetensors)
file(SHA256 ${FOLDER}/labels.safetensors after)
if(NOT output STREQUAL first OR NOT before STREQUAL after)
  message(SEND_ERROR "with the cache the answers differ:\n${first}\n${output}")
endif()

expect(0 "3 embedded, 0 as they were, 0 gone" ${SEARCH} index photos --model clip)
expect(0 "0 embedded, 3 as they were, 0 gone" ${SEARCH} index photos --model clip)
file(COPY ${FOLDER}/photos/red.png DESTINATION ${FOLDER}/new)
file(RENAME ${FOLDER}/new/red.png ${FOLDER}/photos/again.png)
file(REMOVE ${FOLDER}/photos/green.png)
expect(0 "1 embedded, 2 as they were, 1 gone" ${SEARCH} index photos --model clip)
expect(0 "again.png.*red.png|red.png.*again.png" ${SEARCH} query "a cat" --index photos.index.safetensors --model clip)
expect(1 "was made with another model; run search index" ${SEARCH} query "a cat" --index photos.index.safetensors
       --model openai/tiny.safetensors)
expect(1 "expected an index" ${SEARCH} query "a cat" --index clip/model.safetensors --model clip)
expect(1 "expected an index" ${SEARCH} index photos --model clip --out clip/model.safetensors)
expect(1 "green.png" ${SEARCH} eval captions.tsv --model clip)
file(RENAME ${FOLDER}/photos/again.png ${FOLDER}/photos/green.png)
expect(0 "image to text +[0-9.]+ +100.0 +100.0 +3\n.*text to image" ${SEARCH} eval captions.tsv --model clip)
