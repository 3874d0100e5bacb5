// SPDX-License-Identifier: Apache-2.0
// Small edits of objects' bodies that controllers share. Bodies are values: edit a copy.
#pragma once

#include "agent/controllers/plan.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string_view>

namespace shoal::controllers {

// The member as an object, made when absent or of another type.
boost::json::object& sub_object(boost::json::object& parent, std::string_view key);

// Sets a condition of metav1's shape. lastTransitionTime moves only when the status does. Says
// whether anything but times changed. `touch` also moves lastUpdateTime (Deployments have it).
bool set_condition(boost::json::array& conditions, std::string_view type, std::string_view status,
                   std::string_view reason, std::string_view message, WallTime now,
                   bool touch = false);

// A copy of the object's status conditions.
boost::json::array conditions_of(const Object& object);

// The object with this status, for UpdateStatus. It holds for this life of the object (its uid) and
// not for one revision: a status says which generation it observed, and a change of the spec in
// between does not make it wrong.
boost::json::object with_status(const Object& object, boost::json::object status);

// Adds steps that give matching orphans to `owner` and let go of children that no longer match.
// Returns the children that are (or are about to be) its own.
std::vector<ObjectPtr> claim_children(const Object& owner, std::vector<ObjectPtr> owned,
                                      const std::vector<ObjectPtr>& orphans,
                                      const api::LabelSelector& selector, Plan& plan);

}  // namespace shoal::controllers
