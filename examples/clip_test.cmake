# zero_shot and search on a tiny CLIP:
# cmake -DMAKE=<make_tiny_clip> -DZERO_SHOT=<zero_shot> -DSEARCH=<search> -DFOLDER=<scratch> -P clip_test.cmake
unset(ENV{COLUMNS})  # messages in lines of their own, whatever the shell says
file(REMOVE_RECURSE ${FOLDER})
execute_process(COMMAND ${MAKE} ${FOLDER} COMMAND_ERROR_IS_FATAL ANY)

include(${CMAKE_CURRENT_LIST_DIR}/expect.cmake)
set(limit TIMEOUT 60)

# Texts have 10 tokens here, nearly one for each letter: the labels stand alone, or they would all be cut alike.
set(labels --labels cat dog --threads 2 --template {})
expect(0 "^CLIP clip: .*weights[ \n]as[ \n]fp32,[ \n]2[ \n]threads.\n\nphotos/green.png.*photos/red.png.*3 photographs, 2 labels, 1 template" ${ZERO_SHOT} photos/green.png
       photos/red.png photos/deep ${labels} --model clip)
foreach(format IN ITEMS fp32 bf16 int8 int4)
  expect(0 "\"format\": \"${format}\"" ${ZERO_SHOT} photos ${labels} --model clip --format ${format} --json)
endforeach()
expect(0 "3 photographs, 2 labels, 81 templates" ${ZERO_SHOT} photos ${labels} --model openai/tiny.safetensors
       --templates imagenet)
expect(0 "effective experts.*block  1.*block  2" ${ZERO_SHOT} photos ${labels} --model clip --upcycle 4)
expect(0 "patches, and effective experts.*block  2.*words, and effective experts.*block  2" ${ZERO_SHOT} photos ${labels}
       --model clip_moe)
expect(1 "broken.png: is no picture that is known.*deep/blue.png.*3 photographs" ${ZERO_SHOT} with_broken ${labels}
       --model clip)
expect(1 "no photographs in empty" ${ZERO_SHOT} empty ${labels} --model clip)
expect(1 "no pictures: zero_shot" ${ZERO_SHOT} --model clip)
expect(1 "no labels" ${ZERO_SHOT} photos --model clip)
expect(1 "has no place for the label" ${ZERO_SHOT} photos ${labels} --model clip --template "a photo")
expect(1 "--crop is for models of train_limoe" ${ZERO_SHOT} photos ${labels} --model clip --crop)
expect(1 "photos/red.png: is no model.*the folder of a CLIP" ${ZERO_SHOT} photos ${labels} --model photos/red.png)
file(COPY_FILE ${FOLDER}/photos/red.png ${FOLDER}/clip/red.png)
expect(1 "clip/red.png: is no model" ${ZERO_SHOT} photos ${labels} --model clip/red.png)
expect(1 "clip/red.png: is no model" ${SEARCH} index photos --model clip/red.png)
file(REMOVE ${FOLDER}/clip/red.png)
expect(1 "no model at nowhere.*hf download" ${ZERO_SHOT} photos ${labels} --model nowhere)

# What names and labels hold is taken as it is, whatever CLI11 makes of brackets.
file(MAKE_DIRECTORY "${FOLDER}/[2019]")
file(COPY_FILE ${FOLDER}/photos/red.png "${FOLDER}/[2019]/red.png")
expect(0 "\\[2019\\]/red.png.*\\[dog, bird\\].*2 labels" ${ZERO_SHOT} "[2019]" --model clip --labels "[dog, bird]" cat)

# Label files of all origins, and what is none.
string(ASCII 239 187 191 mark)
file(WRITE ${FOLDER}/labels.txt "${mark}cat\r\n# a comment\r\n#1 dad mug\r\n")
expect(0 "\"cat\".*\"#1 dad mug\"|\"#1 dad mug\".*\"cat\"" ${ZERO_SHOT} photos/red.png --model clip --json
       --labels-file labels.txt)
expect(1 "red.png: cannot|line 1 is not UTF-8" ${ZERO_SHOT} photos/red.png --model clip --labels-file photos/red.png)
expect(1 "label 2 behind --labels is empty" ${ZERO_SHOT} photos --model clip --labels cat " ")
expect(0 "note: one label alone" ${ZERO_SHOT} photos --model clip --labels cat)
expect(0 "note: the label «photos/red.png» is the name of a file" ${ZERO_SHOT} photos/green.png --model clip --labels cat
       photos/red.png)

# Of a label that is longer than the context the end is not seen, which is said.
expect(0 "note: 1 label is longer than the 10 tokens .* «a very long label indeed».*\"cut\": true" ${ZERO_SHOT}
       photos/red.png --model clip --template {} --json --labels cat "a very long label indeed")
expect(1 "says that the activation is quick_gelu, but asked for was gelu; leave it out" ${ZERO_SHOT} photos ${labels}
       --model openai/tiny.safetensors --activation gelu)

# Nothing hangs, and what cannot be read is no reason not to answer for the rest.
file(MAKE_DIRECTORY ${FOLDER}/odd)
file(COPY_FILE ${FOLDER}/photos/red.png ${FOLDER}/odd/red.jfif)
file(CREATE_LINK loop.png ${FOLDER}/odd/loop.png SYMBOLIC)
file(WRITE ${FOLDER}/odd/picture.gif "GIF89a")
file(WRITE ${FOLDER}/odd/web-page.jpg "<html>404</html>")
execute_process(COMMAND mkfifo ${FOLDER}/pipe COMMAND_ERROR_IS_FATAL ANY)
set(all_of_it "note: 1 file of another kind was left .GIF 1.*loop.png: cannot be read: Too many levels of symbolic links")
expect(1 "${all_of_it}.*web-page.jpg: is a web page.*1 photograph, 2 labels" ${ZERO_SHOT} odd ${labels} --model clip)
expect(1 "pipe: cannot be read: it is a pipe that nobody writes into" ${ZERO_SHOT} pipe ${labels} --model clip)
expect(1 "pipe: cannot be read: it is a pipe that nobody writes into" ${ZERO_SHOT} photos --labels-file pipe --model clip)
expect(1 "pipe: cannot be read: it is a pipe that nobody writes into" ${SEARCH} eval pipe --model clip)
expect(1 "/dev/zero: has more than" ${ZERO_SHOT} photos --labels-file /dev/zero --model clip)
string(REPEAT "[" 95000 open)
string(REPEAT "]" 95000 close)
file(COPY ${FOLDER}/clip/ DESTINATION ${FOLDER}/nested)
file(WRITE ${FOLDER}/nested/config.json "{\"model_type\":\"clip\",\"projection_dim\":${open}${close}}")
expect(1 "config.json: is nested deeper than 64 levels" ${ZERO_SHOT} photos ${labels} --model nested)
# Whom root may not stand for: a folder that may not be opened.
find_program(SETPRIV setpriv)
execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
file(MAKE_DIRECTORY ${FOLDER}/closed/private)
file(COPY_FILE ${FOLDER}/photos/red.png ${FOLDER}/closed/red.png)
execute_process(COMMAND chmod 0 ${FOLDER}/closed/private COMMAND_ERROR_IS_FATAL ANY)
set(as_nobody "")
if(user EQUAL 0)
  set(as_nobody ${SETPRIV} --reuid=65534 --clear-groups)
endif()
execute_process(COMMAND ${as_nobody} ${ZERO_SHOT} --version WORKING_DIRECTORY ${FOLDER} RESULT_VARIABLE status
                OUTPUT_QUIET ERROR_QUIET)
if(status EQUAL 0)
  expect(1 "folder closed/private: Permission denied.*1 photograph" ${as_nobody} ${ZERO_SHOT} closed ${labels} --model clip)
else()
  message(STATUS "Not tried: a folder that may not be opened, since there is nobody here who may not")
endif()
execute_process(COMMAND chmod 700 ${FOLDER}/closed/private COMMAND_ERROR_IS_FATAL ANY)

# Misuse is told from failure.
expect(2 "zero_shot: --threads: is 100000, expected 0 to 1024" ${ZERO_SHOT} photos ${labels} --model clip --threads 100000)
expect(2 "zero_shot: .*did you mean --labels" ${ZERO_SHOT} photos --lables cat --model clip)
expect(0 "^zero_shot .gatefold. [0-9.]+\n$" ${ZERO_SHOT} --version)
expect(0 "Usage: zero_shot" ${ZERO_SHOT} --help)
expect(1 "with_broken/broken.png: is no picture that is known" ${ZERO_SHOT} with_broken --labels "a red dress" "a blue bag")
foreach(name IN ITEMS deep/blue.png green.png red.png)
  if(NOT output MATCHES "with_broken/${name} [^\n]*\n  a (red dress|blue bag) ")
    message(SEND_ERROR "beside a broken picture the small model does not answer for ${name}:\n${output}")
  endif()
endforeach()

# JSON has all labels unless told, and a line is a picture.
expect(0 "\"cat\".*\"dog\"|\"dog\".*\"cat\"" ${ZERO_SHOT} photos/red.png ${labels} --model clip --jsonl)
string(JSON name GET "${output}" name)
if(NOT name STREQUAL "photos/red.png")
  message(SEND_ERROR "a JSON line of photos/red.png names ${name}")
endif()
expect(0 "{.*}" ${ZERO_SHOT} photos ${labels} --model clip --json --top 1 --multi-label)
foreach(i IN ITEMS 0 1 2)
  string(JSON count LENGTH "${output}" pictures ${i} labels)
  string(JSON probability ERROR_VARIABLE none GET "${output}" pictures ${i} labels 0 probability)
  if(NOT count EQUAL 1 OR NOT none)
    message(SEND_ERROR "--top 1 --multi-label: ${output}")
  endif()
endforeach()
expect(0 "no label reaches 0.9900" ${ZERO_SHOT} photos/red.png ${labels} --model clip --threshold 0.99)
expect(2 "zero_shot: --threshold" ${ZERO_SHOT} photos ${labels} --model clip --threshold 2)

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
expect(1 "--cache: create" ${ZERO_SHOT} photos ${labels} --model clip --cache nowhere/labels.safetensors)

# A packed model answers as the one that it was made of, and its caches and indices are good for both.
expect(0 "in packed, packed as int8" ${ZERO_SHOT} --model clip --format int8 --save-packed packed)
expect(0 "pictures" ${ZERO_SHOT} photos ${labels} --model clip --format int8 --json)
set(first "${output}")
expect(0 "pictures" ${ZERO_SHOT} photos ${labels} --model packed --json)
if(NOT output STREQUAL first)
  message(SEND_ERROR "the packed model answers otherwise:\n${first}\n${output}")
endif()
expect(1 "packed as int8 and cannot be had as fp32" ${ZERO_SHOT} photos ${labels} --model packed --format fp32)
expect(1 "is there already" ${ZERO_SHOT} --model clip --save-packed packed)
expect(0 "3 embedded" ${SEARCH} index photos --model clip --format int8 --out packed.index)
expect(0 "0 embedded, 3 as they were" ${SEARCH} index photos --model packed --out packed.index)

expect(0 "3 embedded, 0 as they were, 0 gone" ${SEARCH} index photos --model clip)
file(CREATE_LINK photos ${FOLDER}/linked SYMBOLIC)
expect(0 "in linked.index.safetensors: 3 embedded" ${SEARCH} index linked/ --model clip)
expect(0 "in photos.index.safetensors: 0 embedded, 3 as they were, 0 gone" ${SEARCH} index ./photos --model clip)
file(COPY ${FOLDER}/photos/red.png DESTINATION ${FOLDER}/new)
file(RENAME ${FOLDER}/new/red.png ${FOLDER}/photos/again.png)
file(REMOVE ${FOLDER}/photos/green.png)
expect(0 "photos/green.png  .gone." ${SEARCH} query "a cat" --index photos.index.safetensors --model clip)
expect(0 "\"gone\": true" ${SEARCH} query "a cat" --index photos.index.safetensors --model clip --json)
expect(0 "0 embedded, 3 as they were, 1 gone" ${SEARCH} index photos --model clip)  # the same bytes as red.png
expect(0 "again.png.*red.png|red.png.*again.png" ${SEARCH} query "a cat" --index photos.index.safetensors --model clip)
expect(0 "photos/red.png.*photos/deep/blue.png|photos/deep/blue.png.*photos/red.png" ${SEARCH} query photos/again.png +
       cat - "a dog" --index photos.index.safetensors --model clip)
expect(0 "note: 1 text is longer than the 10 tokens.*\"query\": \"cat\",\n    \"cut\": false.*very long text indeed\",\n    \"cut\": true" ${SEARCH}
       query cat "cat" + "a very long text indeed" --index photos.index.safetensors --model clip --json)
expect(1 "there is nothing behind the last" ${SEARCH} query cat - --index photos.index.safetensors --model clip)
expect(1 "the index: create" ${SEARCH} index photos --model clip --out nowhere/index.safetensors)
file(MAKE_DIRECTORY ${FOLDER}/elsewhere)
file(RENAME ${FOLDER}/photos ${FOLDER}/elsewhere/photos)
file(RENAME ${FOLDER}/photos.index.safetensors ${FOLDER}/elsewhere/photos.index.safetensors)
expect(0 "elsewhere/photos/red.png" ${SEARCH} query "a cat" --index elsewhere/photos.index.safetensors --model clip)
expect(0 "0 embedded, 3 as they were, 0 gone" ${SEARCH} index elsewhere/photos --model clip)
file(RENAME ${FOLDER}/elsewhere/photos ${FOLDER}/photos)
file(RENAME ${FOLDER}/elsewhere/photos.index.safetensors ${FOLDER}/photos.index.safetensors)
foreach(end IN ITEMS npy safetensors)
  expect(0 "3 photographs and 2 labels in z.${end}" ${SEARCH} embed photos --labels cat dog --model clip --out z.${end})
endforeach()
expect(1 "with_broken/broken.png.*3 photographs and 0 labels" ${SEARCH} embed with_broken --model clip --out z.npy)
expect(1 "expected a name that ends in .npy or .safetensors" ${SEARCH} embed photos --model clip --out z.txt)
expect(1 "was made with another model; run search index" ${SEARCH} query "a cat" --index photos.index.safetensors
       --model openai/tiny.safetensors)
expect(1 "expected an index" ${SEARCH} query "a cat" --index clip/model.safetensors --model clip)
expect(1 "expected an index" ${SEARCH} index photos --model clip --out clip/model.safetensors)
expect(1 "green.png" ${SEARCH} eval captions.tsv --model clip)
file(RENAME ${FOLDER}/photos/again.png ${FOLDER}/photos/green.png)
expect(0 "image to text +[0-9.]+ +100.0 +100.0 +3\n.*text to image" ${SEARCH} eval captions.tsv --model clip)
