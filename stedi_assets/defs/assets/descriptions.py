"""Descriptions of the tables for the catalogue: what each is used for, and by whom."""

# Table -> what it is made of and what it is good for.
PURPOSES = {
    "customer_landing": "Everything the website exported about customers, as it came. Good for"
    " finding out what arrived; not for analysis: people who did not agree are in it.",
    "accelerometer_landing": "Everything the phone app sent, as it came. Good for finding out what"
    " arrived; not for analysis: people who did not agree are in it.",
    "step_trainer_landing": "Everything the Step Trainers sent, as it came. Good for finding out"
    " what arrived; not for analysis: people who did not agree are in it.",
    "customer_trusted": "Made of `customer_landing`. Says who takes part in research now, and since"
    " when; everything after it holds readings of these people only.",
    "accelerometer_trusted": "Made of `accelerometer_landing` and `customer_trusted`. The phone"
    " readings that research may use.",
    "step_trainer_trusted": "Made of `step_trainer_landing`, `customer_landing` and"
    " `customers_curated`. The Step Trainer readings that research may use; a device that two"
    " customers claim is left out, since nobody knows whose readings it sends.",
    "customers_curated": "Made of `customer_trusted` and `accelerometer_trusted`. The people of the"
    " training set before readings are paired; the picture shows how many are left at each step.",
    "machine_learning_curated": "**The training set**: made of `step_trainer_trusted`,"
    " `accelerometer_trusted` and `customers_curated`. Good for learning how a step looks to the"
    " phone while the Step Trainer measures the distance. One step has several rows where the"
    " phone reported several times in that millisecond; split by `subject_id`, so that nobody is"
    " in training and test both.",
}
# Zone -> who may read it.
READERS = {
    "landing": "Data engineers only: names, emails and readings of everybody, consenting or not.",
    "trusted": "Data engineers: consenting customers only, but with names, emails and devices.",
    "curated": "Data engineers: consenting customers only, but with names, emails and devices.",
}
PSEUDONYMOUS_READERS = (
    "Data scientists: consenting customers only, without names, emails or devices."
)
# Entity -> a made-up record of it.
EXAMPLES = {
    "customer": """{"customerName": "Ada Abara", "email": "ada.abara.1@example.com",
 "phone": "8015550100", "birthDay": "1980-05-01", "serialNumber": "00000000-…",
 "registrationDate": 1655510400000, "lastUpdateDate": 1655510400000,
 "shareWithResearchAsOfDate": 1655510400000}""",
    "accelerometer": """{"user": "ada.abara.1@example.com", "timestamp": 1655541000123,
 "x": 0.12, "y": -0.5, "z": 0.98}""",
    "step_trainer": """{"sensorReadingTime": 1655541000123, "serialNumber": "00000000-…",
 "distanceFromObject": 104}""",
}
SOURCES = {
    "customer": "the website's customer export",
    "accelerometer": "the phone app",
    "step_trainer": "the Step Trainer, a motion sensor for balance exercises",
}
