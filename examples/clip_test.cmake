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
expect(0 "patches, and effective experts.*block  2.*words, and effective experts.*block  2" ${ZERO_SHOT} photos ${labels}
       --model clip_moe)
expect(1 "broken.png.*cannot be read.*deep/blue.png.*broken.png: is neither PNG nor JPEG" ${ZERO_SHOT} with_broken ${labels}
       --model clip)
expect(1 "no photographs in empty" ${ZERO_SHOT} empty ${labels} --model clip)
expect(1 "no pictures: zero_shot" ${ZERO_SHOT} --model clip)
expect(1 "no labels" ${ZERO_SHOT} photos --model clip)
expect(1 "has no place for the label" ${ZERO_SHOT} photos ${labels} --model clip --template "a photo")
expect(1 "--crop is for models of train_limoe" ${ZERO_SHOT} photos ${labels} --model clip --crop)
expect(1 "photos/red.png: .*name the folder of a CLIP" ${ZERO_SHOT} photos ${labels} --model photos/red.png)
expect(1 "no model at nowhere.*hf download" ${ZERO_SHOT} photos ${labels} --model nowhere)

# expect_page(TEXT ARGUMENT...): a report of the three photographs, with this in it.
function(expect_page text)
  expect(0 "The report is in report.html" ${ZERO_SHOT} photos ${labels} ${ARGN} --report report.html)
  file(READ ${FOLDER}/report.html page)
  string(REGEX MATCHALL "<article" pictures "${page}")
  list(LENGTH pictures pictures)
  if(NOT pictures EQUAL 3 OR NOT page MATCHES "${text}")
    message(SEND_ERROR "the report of ${ARGN} has ${pictures} pictures and no match of «${text}»")
  endif()
endfunction()
expect_page("compared with what is read" --model clip)
expect_page("Images, block 1 of 2.*Words, block 2 of 2" --model clip --upcycle 4)
expect_page("Images, block 2 of 2.*Words, block 2 of 2" --model clip_moe --cache moe.safetensors)

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
file(CREATE_LINK photos ${FOLDER}/linked SYMBOLIC)
expect(0 "in linked.index.safetensors: 3 embedded" ${SEARCH} index linked/ --model clip)
expect(0 "in photos.index.safetensors: 0 embedded, 3 as they were, 0 gone" ${SEARCH} index ./photos --model clip)
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
