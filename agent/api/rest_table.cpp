// SPDX-License-Identifier: Apache-2.0
#include "agent/api/rest.h"

#include <boost/json/serialize.hpp>

namespace shoal::api {
namespace json = boost::json;

bool wants_table(const Request& request) {
  const std::string_view accept = request.header("accept");
  const std::size_t at = accept.find("as=Table");
  if (at == accept.npos)
    return false;
  // The first of the alternatives that is understood counts: kubectl puts v1 tables first.
  const std::size_t end = accept.find(',', at);
  const std::string_view part = accept.substr(0, end);
  return part.find("v=v1;") != part.npos || part.ends_with("v=v1");
}

std::string table_text(const Kind& kind, const std::vector<store::ObjectPtr>& objects,
                       store::Revision revision, std::string_view include, WallTime now) {
  json::array definitions;
  for (const Column& column : kind.columns)
    definitions.push_back(json::object{{"name", column.name},
                                       {"type", column.type},
                                       {"format", column.format},
                                       {"description", ""},
                                       {"priority", column.priority}});
  json::array rows;
  for (const store::ObjectPtr& object : objects) {
    json::array cells;
    for (const Column& column : kind.columns)
      cells.push_back(column.cell(*object, now));
    json::object row{{"cells", std::move(cells)}};
    if (include == "Object")
      row["object"] = object->body;
    else if (include != "None")
      row["object"] = json::object{{"kind", "PartialObjectMetadata"},
                                   {"apiVersion", "meta.k8s.io/v1"},
                                   {"metadata", object->body.at("metadata")}};
    else
      row["object"] = nullptr;
    rows.push_back(std::move(row));
  }
  return json::serialize(
      json::object{{"kind", "Table"},
                   {"apiVersion", "meta.k8s.io/v1"},
                   {"metadata", json::object{{"resourceVersion", std::to_string(revision)}}},
                   {"columnDefinitions", std::move(definitions)},
                   {"rows", std::move(rows)}});
}

}  // namespace shoal::api
