// SPDX-License-Identifier: Apache-2.0
// Embeddings written, read back, and refused where tensor and table do not belong together.
#include "insula/train/embeddings_io.hpp"

#include "insula/testing/compare.hpp"
#include "support/catch.hpp"
#include "support/folder.hpp"

using namespace insula;
using Catch::Matchers::Contains;
using support::message_of;

namespace {

embedding_table some_table() {
  embedding_table t;
  t.width = 3;
  t.values = testing::random_vector<float>(6, 1);
  t.sources = {{"12", "1", "sub_12/ses_1/t1, \"second\".nii.gz", "t1"}, {"ds/7", "", "b.nii.gz", "flair"}};
  return t;
}

}  // namespace

TEST_CASE("embeddings come back bit by bit, with the scans they are of") {
  support::folder const dir;
  auto const t = some_table();
  write_embeddings(dir / "e", t);
  CHECK(dir.list() == std::vector<std::string>{"e.csv", "e.safetensors"});
  CHECK(read_file(dir / "e.csv").starts_with("filename,embedding_index,modality,patient_id,session_id\n"));
  auto const back = read_embeddings(dir / "e");
  CHECK(back.width == 3);
  CHECK(back.values == t.values);
  REQUIRE(back.rows() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(back.sources[i].patient == t.sources[i].patient);
    CHECK(back.sources[i].session == t.sources[i].session);
    CHECK(back.sources[i].file == t.sources[i].file);
    CHECK(back.sources[i].modality == t.sources[i].modality);
  }
}

TEST_CASE("rows of the table may be in another order: embedding_index places them") {
  support::folder const dir;
  write_embeddings(dir / "e", some_table());
  write_file(dir / "e.csv",
             "embedding_index,patient_id,session_id,modality,filename\n1,7,,flair,b\n0,12,1,t1,a\n");
  auto const back = read_embeddings(dir / "e");
  CHECK(back.sources[0].file == "a");
  CHECK(back.sources[1].patient == "7");
}

TEST_CASE("a table that does not belong to the tensor is refused by file and line") {
  support::folder const dir;
  write_embeddings(dir / "e", some_table());
  auto const refused = [&](std::string const& rows) {
    write_file(dir / "e.csv", "filename,embedding_index,modality,patient_id,session_id\n" + rows);
    return message_of([&] { (void)read_embeddings(dir / "e"); });
  };
  CHECK_THAT(refused("a,0,t1,1,1\n"), Contains("e.csv has 1 rows, the tensor \"embeddings\" 2"));
  CHECK_THAT(refused("a,0,t1,1,1\nb,2,t1,1,1\n"),
             Contains("e.csv:3: embedding_index is") && Contains("0 to 1"));
  CHECK_THAT(refused("a,0,t1,1,1\nb,0,t1,1,1\n"), Contains("each once"));
  CHECK_THAT(refused("a,0,t1,1,1\nb,x,t1,1,1\n"), Contains("not a number"));
  auto t = some_table();
  t.values.pop_back();
  CHECK_THAT(message_of([&] { write_embeddings(dir / "torn", t); }),
             Contains("5 values do not fill 2 rows of 3"));
}
